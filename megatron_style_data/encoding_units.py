"""What one worker does with one unit of a build: read, normalise, encode, hash, write."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from megatron_style_data.build_plan import Slice, Unit, unit_key
from megatron_style_data.build_units import FinishedUnit, finished_unit, writing_unit
from megatron_style_data.encoding import encode_texts
from megatron_style_data.errors import UserError
from megatron_style_data.readers import READERS, ReadCounters, ReadOptions, read_documents
from megatron_style_data.readers.parts import places_in_file
from megatron_style_data.readers.text_batches import TextBatch, read_text_batches
from megatron_style_data.tokenizer import load_tokenizer
from megatron_style_data.tokenizer.fast_encoding import Encoder, OwnEncoder, Proof

# Below the size from which HF's encode_batch starts threads of its own: parallel work is done by processes here.
BATCH_CHARACTERS = 1 << 16


@dataclass(frozen=True, slots=True)
class EncodingJob:
    """What a worker needs to know; sent to it first.

    Attributes:
        folder: The private folder of the build.
        signature: Says what the documents depend on besides the input.
        options: How the input is read.
        tokenizer_path: The tokenizer, used where ``definition`` is None.
        fingerprint: That of its file.
        end_of_text: The token that ends a document.
        end_of_text_id: Its id.
        definition: What ``FastEncoder`` takes; None: the tokenizer encodes.
        proof: What the fast encoder has to encode right first.
        dtype: Name of the token type.
        seed: Keys the hashes.
    """

    folder: Path
    signature: str
    options: ReadOptions
    tokenizer_path: str
    fingerprint: str
    end_of_text: str
    end_of_text_id: int
    definition: str | None
    proof: Proof | None
    dtype: str
    seed: int

    def own_encoder(self) -> Encoder:
        """The tokenizer, which must still be the one the build began with.

        Raises:
            UserError: Another file lies there now.
        """
        tokenizer = load_tokenizer(self.tokenizer_path, end_of_text=self.end_of_text)
        if tokenizer.fingerprint != self.fingerprint:
            raise UserError(f"{self.tokenizer_path}: the tokenizer changed during the build; start the build again.")
        return OwnEncoder(tokenizer)


@dataclass(frozen=True, slots=True)
class UnitDone:
    """A unit is finished.

    Attributes:
        unit: What it holds.
        resumed: It was finished already.
    """

    unit: FinishedUnit
    resumed: bool


def encode_unit(
    unit: Unit, job: EncodingJob, encoder: Encoder, tell: Callable[[int, int], None] = lambda documents, utf8: None
) -> UnitDone:
    """Brings one unit to the disk, unless it is there already.

    Args:
        unit: What to read.
        job: How.
        encoder: That of the job.
        tell: Called after each batch with its documents and the bytes of their texts.

    Raises:
        BadDataError: A document that cannot be read, with ``on_bad="refuse"``, or a damaged file.
        MissingInputError: The file is not there.
        StorageError: It cannot be read, or the disk is full.
    """
    key = unit_key(unit, job.signature)
    known = finished_unit(job.folder, unit.number)
    if known is not None and known.key == key:
        return UnitDone(known, resumed=True)
    with writing_unit(job.folder, unit.number, key) as writer:
        for piece in unit.slices:
            counters = ReadCounters()
            for batch in _slice_batches(piece, job.options, counters):
                encoded = encode_texts(encoder, batch, job.end_of_text_id, job.dtype, job.seed)
                writer.append(encoded)
                tell(len(batch.texts), int(encoded.utf8_bytes.sum()))
            writer.end_slice(counters)
        finished = writer.finished(key)
    return UnitDone(finished, resumed=False)


def slice_texts(piece: Slice, options: ReadOptions, counters: ReadCounters) -> Generator[str, None, None]:
    """The texts of a slice; errors name places in the whole file. ``counters`` counts places from the slice's begin."""
    with _places_in_whole_file(piece):
        for document in read_documents(piece.file, options, counters):
            yield document.text


def _slice_batches(piece: Slice, options: ReadOptions, counters: ReadCounters) -> Iterator[TextBatch]:
    """The texts of ``slice_texts`` in batches."""
    with _places_in_whole_file(piece):
        yield from read_text_batches(piece.file, options, counters, BATCH_CHARACTERS)


@contextmanager
def _places_in_whole_file(piece: Slice) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        message = place_in_whole_file(str(error), piece)
        if message == str(error):
            raise
        raise type(error)(message) from error


def place_in_whole_file(message: str, piece: Slice) -> str:
    """``message`` with the line it names counted in the whole file."""
    part = piece.file.part
    if part is None or READERS[piece.file.format].parts != "lines":
        return message
    return places_in_file(message, piece.file.path, part)
