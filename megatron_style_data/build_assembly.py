"""From finished units to the files of a dataset: train first, then valid, then test, in input order or shuffled."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.digests import BlockDigest, block_bytes_for
from megatron_style_data.errors import StorageError
from megatron_style_data.indexed_dataset import HEADER, Tokens, index_chunks, path_bin, path_idx
from megatron_style_data.manifest import SPLITS, Checksums, SplitName, SplitRecord, checksums_of

_COPY_BYTES = 1 << 22
# Documents are gathered for this much of the output at a time when their order is shuffled.
_WINDOW_BYTES = 1 << 24
_OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """The ids of all documents in input order, in several files.

    Attributes:
        paths: The files, in order.
        tokens: Tokens in each.
        dtype: Name of the token type.
    """

    paths: Sequence[Path]
    tokens: Sequence[int]
    dtype: str


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """The ids in a .bin file, of which slices are read: not mapped, so that reading all of it takes no memory.

    Attributes:
        path: The file.
        dtype: Name of the token type.
        length: Tokens.
    """

    path: Path
    dtype: str
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, where: slice) -> Tokens:
        start, end, _ = where.indices(self.length)
        item = np.dtype(self.dtype).itemsize
        return np.fromfile(self.path, np.dtype(self.dtype).newbyteorder("<"), max(0, end - start), offset=start * item)


def split_records(
    lengths: NDArray[np.int32], utf8_bytes: NDArray[np.int64], splits: NDArray[np.uint8]
) -> dict[SplitName, SplitRecord]:
    """Where each split that has documents will lie; all arrays are (documents,)."""
    found: dict[SplitName, SplitRecord] = {}
    document, token = 0, 0
    for number, name in enumerate(SPLITS):
        members = splits == number
        documents = int(np.count_nonzero(members))
        if documents == 0:
            continue
        tokens = int(lengths[members].sum(dtype=np.int64))
        found[name] = SplitRecord(document, documents, token, tokens, int(utf8_bytes[members].sum()))
        document, token = document + documents, token + tokens
    return found


def document_order(splits: NDArray[np.uint8], shuffle_seed: int | None) -> NDArray[np.int64]:
    """(documents,) numbers of the documents in the order in which they are written.

    Args:
        splits: (documents,) index into `SPLITS` of each document.
        shuffle_seed: Shuffles the documents of each split; None keeps the order of the input.
    """
    if shuffle_seed is None:
        return np.argsort(splits, kind="stable")
    return np.lexsort((_random_keys(len(splits), shuffle_seed), splits))


def write_files(prefix: Path, files: TokenFiles, lengths: NDArray[np.int32], order: NDArray[np.int64]) -> Checksums:
    """Writes PREFIX.bin and PREFIX.idx and brings them to the disk.

    Args:
        prefix: Where to write; existing files are replaced.
        files: The ids, in input order.
        lengths: (documents,) tokens of each document, in input order.
        order: Which document comes first, second ...; those that are not named are left out.

    Raises:
        StorageError: The disk is full or fails.
    """
    written = lengths[order]
    bin_bytes = int(written.sum(dtype=np.int64)) * np.dtype(files.dtype).itemsize
    idx_bytes = HEADER.size + 12 * len(order) + 8 * (len(order) + 1)
    block_bytes = block_bytes_for(max(bin_bytes, idx_bytes))
    bin_digest, idx_digest = BlockDigest(block_bytes), BlockDigest(block_bytes)
    with _TokenReader(files) as reader:
        _write(path_bin(prefix), reader.chunks(lengths, order), bin_digest)
    documents = np.arange(len(order) + 1, dtype=np.int64)
    _write(path_idx(prefix), index_chunks(files.dtype, written, documents), idx_digest)
    return checksums_of(bin_digest, idx_digest)


class _TokenReader:
    """Reads tokens of ``TokenFiles`` by their positions, with few files open. Not mapped: memory stays what it is."""

    def __init__(self, files: TokenFiles) -> None:
        self._files = files
        self._item = np.dtype(files.dtype).itemsize
        # End of each file, in bytes from the beginning of the first.
        self._ends = np.cumsum(np.array(files.tokens, np.int64)) * self._item
        self._descriptors: dict[int, int] = {}

    def __enter__(self) -> "_TokenReader":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def chunks(self, lengths: NDArray[np.int32], order: NDArray[np.int64]) -> Iterator[bytes | memoryview]:
        """The ids of the documents in `order`: neighbours in one piece, many single ones gathered in windows."""
        ends = np.cumsum(lengths, dtype=np.int64) * self._item
        first = np.flatnonzero(np.diff(order, prepend=-2) != 1)
        last = np.append(first[1:], len(order)) - 1
        runs = np.stack([ends[order[first]] - lengths[order[first]].astype(np.int64) * self._item, ends[order[last]]])
        sizes = runs[1] - runs[0]
        large = sizes > _COPY_BYTES  # copied in pieces, never gathered
        window_of = (np.cumsum(sizes) - sizes) // _WINDOW_BYTES
        breaks = (np.diff(window_of) > 0) | large[1:] | large[:-1]
        for window in np.split(np.arange(len(sizes)), np.flatnonzero(breaks) + 1):
            if len(window) == 1:
                yield from self._straight(*runs[:, window[0]].tolist())
            else:
                yield self._gathered(runs[0, window], sizes[window])

    def _straight(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _COPY_BYTES):
            yield b"".join(self._read(at, min(at + _COPY_BYTES, end)))

    def _gathered(self, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> memoryview:
        """Runs put one after the other, read in the order in which they lie on the disk."""
        places = np.cumsum(sizes) - sizes
        buffer = bytearray(int(sizes.sum()))
        for run in np.argsort(starts, kind="stable").tolist():
            start, size, place = int(starts[run]), int(sizes[run]), int(places[run])
            buffer[place : place + size] = b"".join(self._read(start, start + size))
        return memoryview(buffer)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            number = int(np.searchsorted(self._ends, start, side="right"))
            begin = int(self._ends[number - 1]) if number else 0
            stop = min(end, int(self._ends[number]))
            data = os.pread(self._descriptor(number), stop - start, start - begin)
            assert len(data) == stop - start, f"{self._files.paths[number]}: {len(data)} of {stop - start} bytes"
            yield data
            start = stop

    def _descriptor(self, number: int) -> int:
        if number not in self._descriptors:
            if len(self._descriptors) == _OPEN_FILES:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            self._descriptors[number] = os.open(self._files.paths[number], os.O_RDONLY)
        return self._descriptors[number]


def _random_keys(number: int, seed: int) -> NDArray[np.uint64]:
    """Number n's key is output n of splitmix64 (Steele, Lea and Flood, 2014): the same with every version of numpy."""
    gamma, first, second = (np.uint64(value) for value in _SPLITMIX)
    state = np.uint64(seed & (1 << 64) - 1) + gamma * np.arange(1, number + 1, dtype=np.uint64)
    state = (state ^ (state >> np.uint64(30))) * first
    state = (state ^ (state >> np.uint64(27))) * second
    keys: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return keys


_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _write(path: Path, chunks: Iterator[Any], digest: BlockDigest) -> None:
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
