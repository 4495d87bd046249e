"""From documents in input order to the files of a dataset: train first, then valid, then test."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.digests import BlockDigest, block_bytes_for
from megatron_style_data.errors import StorageError
from megatron_style_data.indexed_dataset import HEADER, index_chunks, path_bin, path_idx
from megatron_style_data.manifest import SPLITS, Checksums, SplitName, SplitRecord, checksums_of

_COPY_TOKENS = 1 << 21


def split_records(records: NDArray[np.void], splits: NDArray[np.uint8]) -> dict[SplitName, SplitRecord]:
    """Where each split that has documents will lie."""
    found: dict[SplitName, SplitRecord] = {}
    document, token = 0, 0
    for number, name in enumerate(SPLITS):
        members = splits == number
        documents = int(np.count_nonzero(members))
        if documents == 0:
            continue
        tokens = int(records["length"][members].sum(dtype=np.int64))
        found[name] = SplitRecord(document, documents, token, tokens, int(records["utf8_bytes"][members].sum()))
        document, token = document + documents, token + tokens
    return found


def write_files(prefix: Path, tokens: NDArray[Any], lengths: NDArray[np.int32], splits: NDArray[np.uint8]) -> Checksums:
    """Writes PREFIX.bin and PREFIX.idx and brings them to the disk.

    Args:
        prefix: Where to write; existing files are replaced.
        tokens: (tokens,) ids in input order.
        lengths: (documents,) tokens of each document, in input order.
        splits: (documents,) index into `SPLITS` of each document.

    Raises:
        StorageError: The disk is full or fails.
    """
    order = np.argsort(splits, kind="stable")
    bin_bytes = len(tokens) * tokens.dtype.itemsize
    idx_bytes = HEADER.size + 12 * len(lengths) + 8 * (len(lengths) + 1)
    block_bytes = block_bytes_for(max(bin_bytes, idx_bytes))
    bin_digest, idx_digest = BlockDigest(block_bytes), BlockDigest(block_bytes)
    _write(path_bin(prefix), _token_chunks(tokens, lengths, order), bin_digest)
    documents = np.arange(len(lengths) + 1, dtype=np.int64)
    _write(path_idx(prefix), index_chunks(tokens.dtype.name, lengths[order], documents), idx_digest)
    return checksums_of(bin_digest, idx_digest)


def _token_chunks(tokens: NDArray[Any], lengths: NDArray[np.int32], order: NDArray[np.int64]) -> Iterator[bytes]:
    """The ids of the documents in `order`, neighbours in one piece."""
    ends = np.cumsum(lengths, dtype=np.int64)
    first = np.flatnonzero(np.diff(order, prepend=-2) != 1)
    last = np.append(first[1:], len(order)) - 1
    for start, end in zip(ends[order[first]] - lengths[order[first]], ends[order[last]], strict=True):
        for at in range(int(start), int(end), _COPY_TOKENS):
            yield tokens[at : min(at + _COPY_TOKENS, int(end))].tobytes()


def _write(path: Path, chunks: Iterator[bytes], digest: BlockDigest) -> None:
    try:
        with open(path, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written: {error.strerror or error}; make room and run the same command to go on."
        ) from error
