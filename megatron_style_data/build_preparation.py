"""What a build finds out before it encodes: tokenizer, inputs, plan, and which encoder gives the tokenizer's ids."""

import ctypes
import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from megatron_style_data.build_plan import Unit, plan_units
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.encoding_units import EncodingJob, slice_texts
from megatron_style_data.errors import SettingError
from megatron_style_data.indexed_dataset import choose_dtype
from megatron_style_data.input_size import estimated_text_bytes
from megatron_style_data.manifest import TokenizerRecord, describe_tokenizer
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.splits import check_fractions
from megatron_style_data.tokenizer import load_tokenizer
from megatron_style_data.tokenizer.fast_encoding import Proof, plain_definition
from megatron_style_data.tokenizer.loading import find_tokenizer_file

# Raised when the same input would give other units, so that a build never goes on from units of an older kind.
_UNITS_VERSION = 1
# Below this many bytes of text it takes longer to start a process, or to compare encoders, than to encode.
_BYTES_WORTH_A_WORKER = 1 << 20
_SAMPLED_PLACES = 16
_SAMPLED_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Preparation:
    """All that is known before the first document is encoded.

    Attributes:
        tokenizer: The tokenizer, as the manifest describes it.
        dtype: Name of the token type.
        files: The corpus.
        skipped: Files in folders and globs whose names say no format.
        units: The plan.
        estimated_bytes: About how many bytes of text there are.
        workers: Processes that are worth starting; 0: the work is done in this one.
        definition: What the fast encoder takes, if it may be used.
        proof: What it has to encode right first.
        why_slow: Why the tokenizer itself encodes where there is no definition.
    """

    tokenizer: TokenizerRecord
    dtype: str
    files: list[InputFile]
    skipped: list[Path]
    units: list[Unit]
    estimated_bytes: int
    workers: int
    definition: str | None
    proof: Proof | None
    why_slow: str


def prepare(settings: BuildSettings, *, encodes: bool = True) -> Preparation:
    """Looks at tokenizer and inputs.

    Args:
        settings: The build.
        encodes: Whether anything will be encoded; else no encoder is prepared.

    Raises:
        MissingInputError: An input or the tokenizer is not there.
        BadDataError: One of them cannot be read.
        SettingError: Fractions, workers, format or dtype that cannot be.
    """
    check_fractions(settings.valid_fraction, settings.test_fraction)
    if settings.workers < 1:
        raise SettingError(f"workers {settings.workers}: expected at least 1.")
    with _no_collections():
        return _prepare(settings, encodes)


def _prepare(settings: BuildSettings, encodes: bool) -> Preparation:
    tokenizer = load_tokenizer(settings.tokenizer, end_of_text=settings.end_of_text)
    dtype = choose_dtype(tokenizer.vocab_size, settings.dtype)
    skipped: list[Path] = []
    files = expand_inputs(settings.inputs, settings.format, skipped=skipped)
    units = plan_units(files)
    estimated_bytes = estimated_text_bytes(files)
    streams = any(not file.path.exists() for file in files)  # of unknown size
    worth = max(estimated_bytes // _BYTES_WORTH_A_WORKER, int(streams))
    workers = min(settings.workers, worth) if encodes else 0
    record = describe_tokenizer(tokenizer, settings.tokenizer, settings.output)
    fast = workers > 0 and tokenizer.kind == "huggingface"
    proof = Proof.of(tokenizer, list(_sample(units, settings.read))) if fast else None
    del tokenizer  # before the next large thing is made, so that its memory can go back
    _return_free_memory()
    definition = None
    if fast:
        definition = plain_definition(find_tokenizer_file(Path(settings.tokenizer)).read_bytes(), record.end_of_text)
        _return_free_memory()
    return Preparation(
        tokenizer=record,
        dtype=dtype,
        files=files,
        skipped=skipped,
        units=units,
        estimated_bytes=estimated_bytes,
        workers=workers,
        definition=definition,
        proof=proof,
        why_slow="there is little text" if workers == 0 else "fastokens reads tokenizer.json only",
    )


def encoding_job(settings: BuildSettings, preparation: Preparation, folder: Path) -> EncodingJob:
    """What the workers of a build in ``folder`` are told."""
    return EncodingJob(
        folder=folder,
        signature=signature(settings, preparation),
        options=settings.read,
        tokenizer_path=settings.tokenizer,
        fingerprint=preparation.tokenizer.fingerprint,
        end_of_text=preparation.tokenizer.end_of_text,
        end_of_text_id=preparation.tokenizer.end_of_text_id,
        definition=preparation.definition,
        proof=preparation.proof,
        dtype=preparation.dtype,
        seed=settings.seed,
    )


def signature(settings: BuildSettings, preparation: Preparation) -> str:
    """What every unit depends on besides its input. The encoder is not part of it: every encoder gives the same ids."""
    tokenizer = preparation.tokenizer
    content = [_UNITS_VERSION, tokenizer.fingerprint, tokenizer.end_of_text, preparation.dtype, settings.seed]
    options = asdict(replace(settings.read, max_bad=None))  # says when to stop, not what to read
    return hashlib.sha256(json.dumps([*content, options]).encode()).hexdigest()


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keeps Python from looking for cycles while tokenizers, hundreds of thousands of objects, are read and written."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _return_free_memory() -> None:
    """Gives freed memory back to the system, which glibc keeps: tokenizers take much of it before the workers start."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _sample(units: Sequence[Unit], options: ReadOptions) -> Iterator[str]:
    """Beginnings of documents from all over the corpus."""
    slices = [piece for unit in units for piece in unit.slices if piece.file.path.exists()]
    step = max(1, len(slices) // _SAMPLED_PLACES)
    for piece in slices[::step]:
        with closing(slice_texts(piece, options, ReadCounters())) as texts:
            for text in islice(texts, 1):
                yield text[:_SAMPLED_CHARACTERS]
