"""Reads a dataset from end to end and says whether it is what its manifest says, and if not, where."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from megatron_style_data.digests import BlockDigest, differing_blocks, file_chunks
from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.indexed_dataset import IndexedDataset, path_bin, path_idx
from megatron_style_data.manifest import Manifest, load_manifest

_CHUNK_TOKENS = 1 << 22
_CHUNK_DOCUMENTS = 1 << 20
_BLOCKS_NAMED = 5


def verify(prefix: str | Path, report: Callable[[str, int, int], None] = lambda what, done, total: None) -> Manifest:
    """Checks sizes, checksums, index, ids, end-of-text tokens and counts of a dataset.

    Args:
        prefix: PREFIX of the dataset.
        report: Called with what is being read, bytes done and bytes in all.

    Returns:
        The manifest, if everything is as it says.

    Raises:
        MissingInputError: A file is not there.
        BadDataError: The first thing that is wrong: file, place, found and expected.
    """
    manifest = load_manifest(prefix)
    checksums = manifest.checksums
    idx, bin_ = path_idx(prefix), path_bin(prefix)
    _check_size(idx, checksums.idx_bytes)
    _check_size(bin_, checksums.bin_bytes)
    damaged = _damaged_blocks(idx, checksums.idx, checksums.idx_blocks, checksums.block_bytes, report)
    if damaged:
        raise _damage(idx, damaged, checksums.block_bytes, checksums.idx_bytes, "")
    dataset = IndexedDataset.open(prefix)
    damaged = _damaged_blocks(bin_, checksums.bin, checksums.bin_blocks, checksums.block_bytes, report)
    if damaged:
        where = _documents_in(dataset, damaged[0] * checksums.block_bytes, checksums.block_bytes)
        raise _damage(bin_, damaged, checksums.block_bytes, checksums.bin_bytes, where)
    check_index(dataset)
    check_ids(dataset, manifest.tokenizer.vocab_size)
    _check_counts(dataset, manifest)
    return manifest


def check_index(dataset: IndexedDataset) -> None:
    """Holds that sequences follow one another without gap and documents are in order.

    Raises:
        BadDataError: The first place where they are not.
    """
    idx = path_idx(dataset.prefix)
    itemsize = dataset.tokens.itemsize
    expected = 0
    for start in range(0, len(dataset.sequence_lengths), _CHUNK_DOCUMENTS):
        lengths = dataset.sequence_lengths[start : start + _CHUNK_DOCUMENTS].astype(np.int64)
        pointers = dataset.sequence_pointers[start : start + _CHUNK_DOCUMENTS]
        ends = expected + np.cumsum(lengths) * itemsize
        wrong = np.flatnonzero((pointers != ends - lengths * itemsize) | (lengths < 0))
        if len(wrong):
            sequence = start + int(wrong[0])
            raise BadDataError(
                f"{idx}: sequence {sequence} of {lengths[wrong[0]]} tokens starts at byte {pointers[wrong[0]]} of the "
                f".bin file, expected byte {ends[wrong[0]] - lengths[wrong[0]] * itemsize}; build the dataset again."
            )
        expected = int(ends[-1])
    for start in range(0, len(dataset), _CHUNK_DOCUMENTS):
        steps = np.diff(dataset.document_indices[start : start + _CHUNK_DOCUMENTS + 1])
        wrong = np.flatnonzero(steps < 0)
        if len(wrong):
            raise BadDataError(
                f"{idx}: document {start + int(wrong[0])} ends before it starts (document index not in order); "
                "build the dataset again."
            )


def check_ids(dataset: IndexedDataset, vocab_size: int) -> None:
    """Holds that every id is in the vocabulary.

    Raises:
        BadDataError: The first that is not.
    """
    for start in range(0, len(dataset.tokens), _CHUNK_TOKENS):
        chunk = dataset.tokens[start : start + _CHUNK_TOKENS]
        if chunk.max() >= vocab_size or chunk.min() < 0:
            at = int(np.flatnonzero((chunk >= vocab_size) | (chunk < 0))[0])
            raise BadDataError(
                f"{path_bin(dataset.prefix)}: token {start + at} has id {chunk[at]}, but the tokenizer's vocabulary has "
                f"{vocab_size} entries; the dataset was made with another tokenizer."
            )


def documents_without_end_of_text(dataset: IndexedDataset, end_of_text_id: int) -> tuple[int, int | None]:
    """How many documents do not end with end-of-text, and the first of them. Documents without tokens do not count."""
    missing, first = 0, None
    for start in range(0, len(dataset), _CHUNK_DOCUMENTS):
        bounds = dataset.document_starts(start, min(start + _CHUNK_DOCUMENTS, len(dataset)) + 1)
        filled = np.diff(bounds) > 0
        open_ended = np.flatnonzero(filled)[dataset.tokens[bounds[1:][filled] - 1] != end_of_text_id]
        if len(open_ended) and first is None:
            first = start + int(open_ended[0])
        missing += len(open_ended)
    return missing, first


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path}: no such file, though the manifest is there; build the dataset again."
        ) from error
    if found < expected:
        raise BadDataError(
            f"{path}: truncated: {found} bytes, expected {expected}; it ends {expected - found} bytes early. "
            "Copy it again or build the dataset again."
        )
    if found > expected:
        raise BadDataError(
            f"{path}: too long: {found} bytes, expected {expected}; something was appended or the file is of another "
            "build. Copy it again or build the dataset again."
        )


def _damaged_blocks(
    path: Path, whole: str, blocks: str, block_bytes: int, report: Callable[[str, int, int], None]
) -> list[int]:
    digest = BlockDigest(block_bytes)
    total = path.stat().st_size
    for chunk in file_chunks(path):
        digest.update(chunk)
        report(path.name, digest.bytes, total)
    return [] if digest.whole == whole else differing_blocks(digest.blocks, blocks)


def _damage(path: Path, damaged: list[int], block_bytes: int, file_bytes: int, where: str) -> BadDataError:
    named = ", ".join(
        f"{block * block_bytes}-{min((block + 1) * block_bytes, file_bytes) - 1}" for block in damaged[:_BLOCKS_NAMED]
    )
    more = f" and {len(damaged) - _BLOCKS_NAMED} more ranges" if len(damaged) > _BLOCKS_NAMED else ""
    return BadDataError(
        f"{path}: the size is right but the content is not: checksums differ in bytes {named}{more}{where}; bits flipped "
        "or the file was changed. Copy it again or build the dataset again."
    )


def _documents_in(dataset: IndexedDataset, first_byte: int, size: int) -> str:
    itemsize = dataset.tokens.itemsize
    first = dataset.first_document_from(first_byte // itemsize + 1) - 1
    last = dataset.first_document_from(min(first_byte + size, len(dataset.tokens) * itemsize) // itemsize) - 1
    named = f"document {first}" if first == last else f"documents {first} to {last}"
    return f" (in the first of these: {named})"


def _check_counts(dataset: IndexedDataset, manifest: Manifest) -> None:
    found: dict[str, int | str] = {
        "tokens": len(dataset.tokens),
        "documents": len(dataset),
        "sequences": len(dataset.sequence_lengths),
        "dtype": dataset.dtype,
    }
    for name, value in found.items():
        if value != getattr(manifest, name):
            raise BadDataError(
                f"{path_idx(dataset.prefix)}: {name} {value}, but the manifest says {getattr(manifest, name)}; "
                "build the dataset again."
            )
    for name, split in manifest.splits.items():
        start = int(dataset.document_starts(split.first_document, split.first_document + 1)[0])
        if start != split.first_token:
            raise BadDataError(
                f"{path_idx(dataset.prefix)}: split {name} starts at token {start}, but the manifest says "
                f"{split.first_token}; build the dataset again."
            )
    missing, first = documents_without_end_of_text(dataset, manifest.tokenizer.end_of_text_id)
    if missing != manifest.documents_without_end_of_text:
        raise BadDataError(
            f"{path_bin(dataset.prefix)}: {missing} documents do not end with the end-of-text token "
            f"{manifest.tokenizer.end_of_text_id} (first: document {first}), but the manifest says "
            f"{manifest.documents_without_end_of_text}; build the dataset again."
        )
