"""Builds an indexed dataset from raw text: read, encode, split, write, measure, publish.

The output (.bin, .idx and .meta.json, byte for byte) depends on texts, order of the inputs, tokenizer and settings; not
on the number of workers, on interruptions, on time or on where it is built.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_write_bytes
from megatron_style_data.build_assembly import split_records, write_files
from megatron_style_data.build_parts import BuildParts, locked_folder, path_building
from megatron_style_data.build_reading import CorpusReading
from megatron_style_data.encoding_processes import EncodingJob, encoder
from megatron_style_data.entropy import measure_floor
from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError
from megatron_style_data.indexed_dataset import IndexedDataset, TokenDtype, choose_dtype
from megatron_style_data.input_size import estimated_text_bytes
from megatron_style_data.manifest import Manifest, SourceRecord, describe_tokenizer, manifest_bytes, path_manifest
from megatron_style_data.publish import ASIDE, publish, refuse_existing, take_back_unfinished
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.splits import assign_splits, check_fractions
from megatron_style_data.tokenizer import Tokenizer, load_tokenizer

# Raised when the same input would give other parts, so that a build never goes on from parts of an older kind.
_PARTS_VERSION = 1
_BYTES_WORTH_A_WORKER = 1 << 20


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What a build does. `workers` and `force` do not change the output.

    Attributes:
        inputs: Files, folders and globs.
        tokenizer: Folder or file of the tokenizer.
        output: PREFIX of the dataset.
        workers: Encoding processes.
        valid_fraction: Share of the documents of each source held out for evaluation during training.
        test_fraction: Share held out for the end.
        seed: Decides which documents are held out.
        format: Format of the inputs, or "auto".
        read: How the inputs are read.
        dtype: Type of the token ids.
        end_of_text: The token that ends a document, where the tokenizer's files do not say.
        force: Replace what is there.
    """

    inputs: Sequence[str]
    tokenizer: str
    output: Path
    workers: int = 1
    valid_fraction: float = 0.01
    test_fraction: float = 0.0
    seed: int = 0
    format: str = "auto"
    read: ReadOptions = field(default_factory=ReadOptions)
    dtype: TokenDtype = "auto"
    end_of_text: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        stage: "encoding", then "writing", then "measuring".
        documents: Documents encoded so far, those of an interrupted build included.
        utf8_bytes: Bytes of their texts.
        estimated_bytes: About how many bytes of text the inputs hold.
    """

    stage: str
    documents: int
    utf8_bytes: int
    estimated_bytes: int


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made, and what it left out.

    Attributes:
        manifest: The dataset's manifest.
        counters: What was read, changed and dropped, with the first places.
        skipped_files: Files in folders and globs whose names say no format.
        resumed_documents: Documents taken over from an interrupted build.
    """

    manifest: Manifest
    counters: ReadCounters
    skipped_files: list[Path]
    resumed_documents: int


def build(settings: BuildSettings, report: Callable[[BuildProgress], None] = lambda progress: None) -> BuildResult:
    """Builds a dataset and publishes it.

    Raises:
        MissingInputError: An input or the tokenizer is not there.
        BadDataError: Input that cannot be read, an empty corpus, or nothing left to train on.
        SettingError: Fractions, workers, format or dtype that cannot be.
        StorageError: The output exists, is being built, or cannot be written.
    """
    check_fractions(settings.valid_fraction, settings.test_fraction)
    tokenizer = load_tokenizer(settings.tokenizer, end_of_text=settings.end_of_text)
    dtype = choose_dtype(tokenizer.vocab_size, settings.dtype)
    skipped: list[Path] = []
    files = expand_inputs(settings.inputs, settings.format, skipped=skipped)
    estimated_bytes = estimated_text_bytes(files)
    reading = CorpusReading(files, settings.read, settings.seed)
    job = EncodingJob(settings.tokenizer, tokenizer.end_of_text, tokenizer.fingerprint, dtype, settings.seed)

    def tell(stage: str) -> None:
        report(BuildProgress(stage, parts.documents, parts.utf8_bytes, estimated_bytes))

    with _private_folder(settings) as folder, BuildParts(folder, dtype, _signature(job)) as parts:
        tell("encoding")
        with encoder(job, _useful_workers(settings.workers, estimated_bytes)) as encode:
            for _ in reading.encode_into(parts, encode):
                tell("encoding")
        parts.make_safe()
        tell("writing")
        manifest = _assemble(settings, tokenizer, reading, parts, lambda: tell("measuring"))
        atomic_write_bytes(path_manifest(folder / ASIDE), manifest_bytes(manifest))
        publish(folder, settings.output)
    return BuildResult(manifest, reading.total(), skipped, reading.resumed_documents)


@contextmanager
def _private_folder(settings: BuildSettings) -> Iterator[Path]:
    """The locked folder of this build; it stays when the build is interrupted, so that the next one can go on."""
    folder = path_building(settings.output)
    with locked_folder(folder):
        try:
            take_back_unfinished(folder, settings.output)
            if not settings.force:
                refuse_existing(settings.output)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            yield folder
        except (BadDataError, MissingInputError, SettingError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _useful_workers(workers: int, estimated_bytes: int) -> int:
    """Fewer than asked for where starting them would take longer than the work."""
    return min(workers, 1 + estimated_bytes // _BYTES_WORTH_A_WORKER)


def _signature(job: EncodingJob) -> str:
    """What the encoded documents depend on besides their texts."""
    content = [_PARTS_VERSION, job.fingerprint, job.end_of_text, job.dtype, job.seed]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _assemble(
    settings: BuildSettings,
    tokenizer: Tokenizer,
    reading: CorpusReading,
    parts: BuildParts,
    before_measuring: Callable[[], None],
) -> Manifest:
    """Writes .bin and .idx aside and describes them."""
    records = parts.records()
    lengths = np.array(records["length"])
    splits = assign_splits(
        np.array(records["hash"]), np.array(records["source"]), settings.valid_fraction, settings.test_fraction
    )
    prefix = parts.folder / ASIDE
    checksums = write_files(prefix, parts.tokens(), lengths, splits)
    ranges = split_records(records, splits)
    dataset = IndexedDataset.open(prefix)
    before_measuring()
    return Manifest(
        origin="built",
        tokenizer=describe_tokenizer(tokenizer, settings.tokenizer, settings.output),
        dtype=dataset.dtype,
        documents=len(records),
        sequences=len(records),
        tokens=parts.token_count,
        utf8_bytes=int(records["utf8_bytes"].sum()),
        documents_without_end_of_text=0,
        checksums=checksums,
        splits=ranges,
        sources=_source_records(records, reading),
        settings=_recorded_settings(settings),
        floor=measure_floor(dataset.tokens, ranges, tokenizer.vocab_size),
    )


def _source_records(records: NDArray[np.void], reading: CorpusReading) -> list[SourceRecord]:
    number = len(reading.sources)
    documents = np.bincount(records["source"], minlength=number)
    # Sums of integers below 2**53 are exact in the floats that bincount adds in.
    tokens = np.bincount(records["source"], records["length"], minlength=number)
    utf8_bytes = np.bincount(records["source"], records["utf8_bytes"], minlength=number)
    return [
        SourceRecord(
            name=name,
            documents=int(documents[source]),
            tokens=int(tokens[source]),
            utf8_bytes=int(utf8_bytes[source]),
            dropped=dict(sorted(reading.counters[source].dropped.items())),
            changed=dict(sorted(reading.counters[source].changes.items())),
        )
        for source, name in enumerate(reading.sources)
    ]


def _recorded_settings(settings: BuildSettings) -> dict[str, str | int | float | bool | None]:
    return {
        "valid_fraction": settings.valid_fraction,
        "test_fraction": settings.test_fraction,
        "seed": settings.seed,
        "format": settings.format,
        **asdict(settings.read),
    }
