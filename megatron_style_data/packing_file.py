"""PREFIX.SPLIT-S.packing: which pieces of which documents make up each sample of best-fit packing, on the disk.

Layout, little-endian, no array unaligned (docs/data_format.md):

    136 bytes  header (_HEADER): magic, version, S, split, fingerprint of the dataset, counts, xxh3-128 of the rest of
               the file, and xxh3-64 of the header before it
    int64[S]      by_room: bins with at most 0, 1, 2 ... tokens of room left
    int64[l]      full_ends: full samples up to and with each long document
    int64[b + 1]  bin_starts: first piece of each bin, then the number of pieces
    uint32[l]     long_codes
    uint32[p]     piece_codes

A code is 2 * document + head: the document's number within the split, and whether its rest is its head. A document of q
full samples and r tokens more is long if q > 0; its rest, the r tokens, is at its end, or at its begin if `head` is 1.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_file
from megatron_style_data.errors import BadDataError, MissingInputError, StorageError

_MAGIC = b"ZHGPTPAK"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQ8s32sQQQQQQ16s")
_HEADER_BYTES = _HEADER.size + 8
_CHUNK_BYTES = 1 << 24


class _Header(NamedTuple):
    """The fields of the header, in their order."""

    magic: bytes
    version: int
    zero: int
    sequence_length: int
    split: bytes
    fingerprint: bytes
    documents: int
    tokens: int
    long_documents: int
    bins: int
    pieces: int
    out_of_context: int
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Best-fit packing of one split.

    Attributes:
        sequence_length: S, the targets a sample has room for.
        documents: Documents of the split.
        tokens: Tokens of the split.
        out_of_context: Rests that follow another document's end though they begin in mid-document.
        by_room: (S,) int64, how many bins have at most that much room left; bins are ordered by it.
        full_ends: (long documents,) int64, full samples up to and with each.
        bin_starts: (bins + 1,) int64, first piece of each bin.
        long_codes: (long documents,) uint32, 2 * document + head.
        piece_codes: (pieces,) uint32, 2 * document + head, bin after bin.
    """

    sequence_length: int
    documents: int
    tokens: int
    out_of_context: int
    by_room: NDArray[np.int64]
    full_ends: NDArray[np.int64]
    bin_starts: NDArray[np.int64]
    long_codes: NDArray[np.uint32]
    piece_codes: NDArray[np.uint32]

    @property
    def full_samples(self) -> int:
        """Samples out of the middle of long documents, without room."""
        return int(self.full_ends[-1]) if len(self.full_ends) else 0

    @property
    def bins(self) -> int:
        """Samples of whole documents and rests."""
        return len(self.bin_starts) - 1

    @property
    def samples(self) -> int:
        """Samples an epoch."""
        return self.full_samples + self.bins

    @property
    def padding(self) -> float:
        """Share of the targets' places that stays empty."""
        return 1 - self.tokens / (self.samples * self.sequence_length)


def path_packing(prefix: str | Path, split: str, sequence_length: int) -> Path:
    """PREFIX.SPLIT-S.packing."""
    return Path(f"{prefix}.{split}-{sequence_length}.packing")


def write_packing(path: Path, packing: Packing, split: str, fingerprint: str) -> None:
    """Writes a packing, durably and at once.

    Raises:
        StorageError: It cannot be written.
    """
    digest = xxhash.xxh3_128()
    with atomic_file(path) as file:
        file.write(bytes(_HEADER_BYTES))
        for array, dtype in _arrays(packing):
            data = np.ascontiguousarray(array, dtype).view(np.uint8).data
            for start in range(0, len(data), _CHUNK_BYTES):
                file.write(data[start : start + _CHUNK_BYTES])
                digest.update(data[start : start + _CHUNK_BYTES])
        file.seek(0)
        fields = _Header(
            magic=_MAGIC,
            version=_VERSION,
            zero=0,
            sequence_length=packing.sequence_length,
            split=split.encode(),
            fingerprint=bytes.fromhex(fingerprint),
            documents=packing.documents,
            tokens=packing.tokens,
            long_documents=len(packing.long_codes),
            bins=packing.bins,
            pieces=len(packing.piece_codes),
            out_of_context=packing.out_of_context,
            digest=digest.digest(),
        )
        header = _HEADER.pack(*fields)
        file.write(header + xxhash.xxh3_64_digest(header))


def open_packing(
    prefix: str | Path, split: str, sequence_length: int, fingerprint: str, *, verify: bool = False
) -> Packing:
    """Maps the packing of a split; reads its header alone.

    Args:
        prefix: Path of the dataset.
        split: "train", "valid" or "test".
        sequence_length: S.
        fingerprint: `Manifest.fingerprint` of the dataset as it is now.
        verify: Also read all of it and check its checksum.

    Raises:
        MissingInputError: The split is not packed for this S.
        BadDataError: The file is damaged, of another version, or of an earlier build of the dataset.
        StorageError: It cannot be read.
    """
    path = path_packing(prefix, split, sequence_length)
    command = f"zhgpt data pack {prefix} --sequence-length {sequence_length} --split {split}"
    view = memoryview(_map(path, command))
    again = f"pack again: `{command} --force`."
    header = _read_header(path, view, again)
    named = header.split.rstrip(b"\0").decode()
    if (header.sequence_length, named) != (sequence_length, split):
        raise BadDataError(
            f"{path}: packs {named} for sequence length {header.sequence_length}, but is named for {split} and "
            f"{sequence_length}; {again}"
        )
    if header.fingerprint.hex() != fingerprint:
        raise BadDataError(
            f"{path}: was made for a dataset with fingerprint {header.fingerprint.hex()}, but {prefix} has "
            f"{fingerprint}: it was built anew since; {again}"
        )
    counts = [
        (sequence_length, "<i8"),
        (header.long_documents, "<i8"),
        (header.bins + 1, "<i8"),
        (header.long_documents, "<u4"),
        (header.pieces, "<u4"),
    ]
    expected = _HEADER_BYTES + sum(count * int(dtype[-1]) for count, dtype in counts)
    if len(view) != expected:
        raise BadDataError(f"{path}: {len(view)} bytes, but its header announces {expected}; {again}")
    if verify and xxhash.xxh3_128_digest(view[_HEADER_BYTES:]) != header.digest:
        raise BadDataError(f"{path}: its content does not have the checksum it names: it was damaged; {again}")
    arrays: list[NDArray[Any]] = []
    at = _HEADER_BYTES
    for count, dtype in counts:
        arrays.append(np.frombuffer(view, dtype, count, at))
        at += arrays[-1].nbytes
    return Packing(sequence_length, header.documents, header.tokens, header.out_of_context, *arrays)


def _arrays(packing: Packing) -> list[tuple[NDArray[np.int64] | NDArray[np.uint32], str]]:
    return [
        (packing.by_room, "<i8"),
        (packing.full_ends, "<i8"),
        (packing.bin_starts, "<i8"),
        (packing.long_codes, "<u4"),
        (packing.piece_codes, "<u4"),
    ]


def _map(path: Path, command: str) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file; best-fit packing is made once, by `{command}`.") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # mmap's word for an empty file
        raise BadDataError(f"{path}: the file is empty; make it again: `{command} --force`.") from error


def _read_header(path: Path, view: memoryview, again: str) -> _Header:
    """The header, whole and of this version."""
    head = bytes(view[:_HEADER_BYTES])
    if head[: len(_MAGIC)] != _MAGIC:
        raise BadDataError(
            f"{path}: begins with {head[: len(_MAGIC)]!r}, but a packing begins with {_MAGIC!r}; {again}"
        )
    if len(head) < _HEADER_BYTES or xxhash.xxh3_64_digest(head[:-8]) != head[-8:]:
        raise BadDataError(f"{path}: its header is damaged or cut off; {again}")
    header = _Header(*_HEADER.unpack(head[:-8]))
    if header.version != _VERSION:
        raise BadDataError(f"{path}: version {header.version} of the packing, but only {_VERSION} is known; {again}")
    return header
