"""Takes over .bin/.idx files that Megatron or GPT-NeoX made: checks them and writes the manifest they lack."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from megatron_style_data.atomic import atomic_write_bytes
from megatron_style_data.digests import BlockDigest, block_bytes_for, file_chunks
from megatron_style_data.entropy import measure_floor
from megatron_style_data.errors import BadDataError, StorageError
from megatron_style_data.indexed_dataset import IndexedDataset, path_bin, path_idx
from megatron_style_data.manifest import (
    Checksums,
    Manifest,
    SourceRecord,
    SplitName,
    SplitRecord,
    checksums_of,
    describe_tokenizer,
    manifest_bytes,
    path_manifest,
)
from megatron_style_data.splits import check_fractions, share
from megatron_style_data.tokenizer import Tokenizer, load_tokenizer
from megatron_style_data.verify import check_ids, check_index, documents_without_end_of_text

_DOCUMENTS_A_BLOCK = 1 << 12


@dataclass(frozen=True, slots=True)
class AdoptSettings:
    """What to take over and how.

    Attributes:
        prefix: PREFIX of the .bin and .idx files.
        tokenizer: Folder or file of the tokenizer they were made with.
        end_of_text: The token that ends a document, where the tokenizer's files do not say.
        valid_fraction: Share of the documents, the last ones before test, to hold out; 0: all documents are train.
        test_fraction: Share of the documents, the very last ones, to hold out.
        force: Replace a manifest that is there.
    """

    prefix: Path
    tokenizer: str
    end_of_text: str | None = None
    valid_fraction: float = 0.0
    test_fraction: float = 0.0
    force: bool = False


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """The new manifest and the first document without end-of-text token, if there is one."""

    manifest: Manifest
    first_without_end_of_text: int | None


def adopt(settings: AdoptSettings, report: Callable[[int, int], None] = lambda done, total: None) -> AdoptResult:
    """Checks the files, counts their text by decoding it, and writes PREFIX.meta.json.

    The files stay as they are, so held-out documents can only be the last ones; which texts are alike is not looked at.

    Args:
        settings: What and how.
        report: Called with tokens decoded and tokens in all.

    Raises:
        MissingInputError: Files or tokenizer are not there.
        BadDataError: The files are damaged, or were made with another tokenizer.
        SettingError: Fractions that cannot be.
        StorageError: There is a manifest already.
    """
    check_fractions(settings.valid_fraction, settings.test_fraction)
    if path_manifest(settings.prefix).exists() and not settings.force:
        raise StorageError(f"{path_manifest(settings.prefix)}: exists already; pass --force to replace it.")
    tokenizer = load_tokenizer(settings.tokenizer, end_of_text=settings.end_of_text)
    dataset = IndexedDataset.open(settings.prefix)
    check_index(dataset)
    check_ids(dataset, tokenizer.vocab_size)
    missing, first_missing = documents_without_end_of_text(dataset, tokenizer.end_of_text_id)
    splits = _splits(settings, dataset, tokenizer, report)
    utf8_bytes = sum(split.utf8_bytes for split in splits.values())
    manifest = Manifest(
        origin="adopted",
        tokenizer=describe_tokenizer(tokenizer, settings.tokenizer, settings.prefix),
        dtype=dataset.dtype,
        documents=len(dataset),
        sequences=len(dataset.sequence_lengths),
        tokens=len(dataset.tokens),
        utf8_bytes=utf8_bytes,
        documents_without_end_of_text=missing,
        checksums=_checksums(settings.prefix),
        splits=splits,
        sources=[SourceRecord(settings.prefix.name, len(dataset), len(dataset.tokens), utf8_bytes, {}, {})],
        settings={"valid_fraction": settings.valid_fraction, "test_fraction": settings.test_fraction},
        floor=measure_floor(dataset.tokens, splits, tokenizer.vocab_size),
    )
    atomic_write_bytes(path_manifest(settings.prefix), manifest_bytes(manifest))
    return AdoptResult(manifest, first_missing)


def _splits(
    settings: AdoptSettings, dataset: IndexedDataset, tokenizer: Tokenizer, report: Callable[[int, int], None]
) -> dict[SplitName, SplitRecord]:
    """All documents as train but the last ones, as valid and then test."""
    documents = len(dataset)
    valid, test = share(settings.valid_fraction, documents), share(settings.test_fraction, documents)
    counts: dict[SplitName, int] = {"train": documents - valid - test, "valid": valid, "test": test}
    if counts["train"] < 1:
        raise BadDataError(
            f"{path_idx(settings.prefix)}: nothing is left to train on: {documents} documents, {valid} of them valid and "
            f"{test} test; hold out fewer."
        )
    splits: dict[SplitName, SplitRecord] = {}
    first = 0
    for name, count in counts.items():
        if count == 0:
            continue
        utf8_bytes = 0
        for end, size in _text_sizes(dataset, tokenizer, first, first + count):
            utf8_bytes += size
            report(end, len(dataset.tokens))
        if utf8_bytes == 0:
            raise BadDataError(
                f"{path_bin(settings.prefix)}: documents {first} to {first + count - 1} ({name}) hold no text."
            )
        start, end = (int(dataset.document_starts(at, at + 1)[0]) for at in (first, first + count))
        splits[name] = SplitRecord(first, count, start, end - start, utf8_bytes)
        first += count
    return splits


def _text_sizes(dataset: IndexedDataset, tokenizer: Tokenizer, first: int, end: int) -> Iterator[tuple[int, int]]:
    """For each document: where it ends, and the UTF-8 bytes of its decoded text without end-of-text tokens."""
    for start in range(first, end, _DOCUMENTS_A_BLOCK):
        bounds = dataset.document_starts(start, min(start + _DOCUMENTS_A_BLOCK, end) + 1).tolist()
        for begin, stop in pairwise(bounds):
            ids = dataset.tokens[begin:stop]
            yield stop, len(tokenizer.decode(ids[ids != tokenizer.end_of_text_id].tolist()).encode())


def _checksums(prefix: Path) -> Checksums:
    files = [path_bin(prefix), path_idx(prefix)]
    digests = [BlockDigest(block_bytes_for(max(path.stat().st_size for path in files))) for _ in files]
    for path, digest in zip(files, digests, strict=True):
        for chunk in file_chunks(path):
            digest.update(chunk)
    return checksums_of(*digests)
