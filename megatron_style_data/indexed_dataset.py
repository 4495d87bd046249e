"""Megatron's MMIDIDX files: PREFIX.bin holds token ids and nothing else, PREFIX.idx says where each text lies in it.

Layout of the .idx file, little-endian, nothing aligned or padded (megatron/core/datasets/indexed_dataset.py in
Megatron-LM; docs/data_format.md shows it byte by byte):

    9 bytes   b"MMIDIDX\\x00\\x00"
    u64       version, 1
    u8        code of the token dtype (DTYPE_CODES)
    u64       number of sequences n
    u64       length of the document index d: one more than the number of documents
    int32[n]  tokens of each sequence
    int64[n]  offset of each sequence in the .bin file, in bytes
    int64[d]  first sequence of each document, and n at the end

Datasets built here have one sequence a document; files from elsewhere may have several.
"""

import mmap
import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
# Megatron's codes for the types a token id can have; 2 (int8), 6 and 7 (floats) hold no ids.
DTYPE_CODES: dict[int, str] = {1: "uint8", 3: "int16", 4: "int32", 5: "int64", 8: "uint16"}
HEADER = struct.Struct("<9sQBQQ")
TokenDtype = Literal["auto", "uint16", "int32"]
Tokens = NDArray[np.integer[Any]]

_CHUNK_SEQUENCES = 1 << 20
_NEAR_SEQUENCES = 7


def path_bin(prefix: str | Path) -> Path:
    """PREFIX.bin. The suffix is appended, so that a prefix may contain dots."""
    return Path(f"{prefix}.bin")


def path_idx(prefix: str | Path) -> Path:
    """PREFIX.idx."""
    return Path(f"{prefix}.idx")


def choose_dtype(vocab_size: int, requested: TokenDtype = "auto") -> str:
    """Name of the type token ids are stored in.

    "auto" follows Megatron's rule (`DType.optimal_dtype`): uint16 below 65500 ids, else int32.

    Raises:
        SettingError: uint16 is asked for and the largest id does not fit.
    """
    if requested == "auto":
        return "uint16" if vocab_size < 65500 else "int32"
    if requested == "uint16" and vocab_size > 1 << 16:
        raise SettingError(
            f"dtype uint16 holds ids up to 65535, but the tokenizer's vocabulary has {vocab_size} entries "
            f"(largest id {vocab_size - 1}); use dtype auto or int32."
        )
    return requested


@dataclass(frozen=True, slots=True, eq=False)
class IndexedDataset:
    """A .bin/.idx pair, mapped read-only. Opening reads the header and four numbers; nothing is copied or written.

    Attributes:
        prefix: The path without .bin and .idx.
        tokens: (tokens,) ids over the map of PREFIX.bin.
        sequence_lengths: (sequences,) int32, tokens of each sequence.
        sequence_pointers: (sequences,) int64, offset of each sequence in PREFIX.bin in bytes.
        document_indices: (documents + 1,) int64, first sequence of each document, then the number of sequences.

    The index arrays lie unaligned in the file: slices and items are cheap, but functions such as `np.searchsorted`
    would copy the whole array on every call.
    """

    prefix: Path
    tokens: Tokens
    sequence_lengths: NDArray[np.int32]
    sequence_pointers: NDArray[np.int64]
    document_indices: NDArray[np.int64]
    _pointer_items: "memoryview[int]"
    _document_items: "memoryview[int]"

    @classmethod
    def open(cls, prefix: str | Path) -> "IndexedDataset":
        """Maps PREFIX.bin and PREFIX.idx after checking magic, version, dtype and all sizes.

        Raises:
            MissingInputError: One of the files is not there.
            BadDataError: The files are damaged, truncated or of another kind.
            StorageError: They cannot be read.
        """
        idx, bin_ = path_idx(prefix), path_bin(prefix)
        index = _map(idx)
        dtype, sequences, entries = _read_header(idx, index)
        pointers_at = HEADER.size + 4 * sequences
        documents_at = pointers_at + 8 * sequences
        dataset = cls(
            prefix=Path(prefix),
            tokens=_map_tokens(bin_, dtype),
            sequence_lengths=np.frombuffer(index, "<i4", sequences, HEADER.size),
            sequence_pointers=np.frombuffer(index, "<i8", sequences, pointers_at),
            document_indices=np.frombuffer(index, "<i8", entries, documents_at),
            _pointer_items=memoryview(index)[pointers_at:documents_at].cast("q"),
            _document_items=memoryview(index)[documents_at:].cast("q"),
        )
        _check_ends(dataset, idx, bin_)
        return dataset

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.document_indices) - 1

    @property
    def dtype(self) -> str:
        """Name of the token type, e.g. "uint16"."""
        return self.tokens.dtype.name

    def document(self, number: int) -> Tokens:
        """Ids of document `number` (from 0), a view of the map."""
        if not 0 <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        start, end = self.document_starts(number, number + 2).tolist()
        return self.tokens[start:end]

    def document_starts(self, first: int, end: int) -> NDArray[np.int64]:
        """Token positions where documents `first` to `end - 1` start; position `len(self)` is the number of tokens."""
        return self._starts(self.document_indices[first:end])

    def starts_of(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Token positions where documents start, by their numbers; `len(self)` gives the number of tokens."""
        return self._starts(self.document_indices[documents])

    def _starts(self, sequences: NDArray[np.int64]) -> NDArray[np.int64]:
        starts = np.full(len(sequences), len(self.tokens), np.int64)
        inside = sequences < len(self.sequence_pointers)  # the end itself, and empty documents before it
        starts[inside] = self.sequence_pointers[sequences[inside]] // self.tokens.itemsize
        return starts

    def first_document_from(self, token: int) -> int:
        """Number of the first document that starts at or after token position `token`; `len(self)` if none does."""
        return int(self.documents_within(np.array([token]), np.array([token]))[0][0])

    def documents_within(
        self, lows: NDArray[np.int64], highs: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each range of token positions [low, high), the first document that starts in it and the first after it.

        Args:
            lows: (n,) token positions.
            highs: (n,) token positions, each at least as large as its low one.
        """
        pointers, sequences = self._pointer_items, []
        offsets = zip((lows * self.tokens.itemsize).tolist(), (highs * self.tokens.itemsize).tolist(), strict=True)
        for low, high in offsets:
            first = bisect_left(pointers, low)
            # Most samples hold few documents: their pointers lie beside the first one, those further on in other pages.
            near = min(len(pointers), first + _NEAR_SEQUENCES)
            after = bisect_left(pointers, high, first, near)
            sequences.append(first)
            sequences.append(after if after < near else bisect_left(pointers, high, near))
        documents = self._documents_of(np.array(sequences, np.int64))
        return documents[::2], documents[1::2]

    def _documents_of(self, sequences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the first documents that start with these sequences or later ones."""
        last = len(self)
        bounds = self.document_indices
        # In files of one sequence a document, the rule, the numbers are the same.
        same = bounds[np.minimum(sequences, last)] == sequences
        same &= (sequences == 0) | (bounds[np.clip(sequences - 1, 0, last)] < sequences)
        documents = sequences.copy()
        for place in np.flatnonzero(~same).tolist():
            documents[place] = bisect_left(self._document_items, int(sequences[place]), 0, last)
        return documents


def index_chunks(
    dtype: str, sequence_lengths: NDArray[np.int32], document_indices: NDArray[np.int64]
) -> Iterator[bytes]:
    """The bytes of an .idx file, in pieces of bounded size.

    Args:
        dtype: Name of the token type, one of `DTYPE_CODES`.
        sequence_lengths: (sequences,) tokens of each sequence, in the order of the .bin file.
        document_indices: (documents + 1,) first sequence of each document, then the number of sequences.
    """
    code = next(code for code, name in DTYPE_CODES.items() if name == dtype)
    yield HEADER.pack(MAGIC, VERSION, code, len(sequence_lengths), len(document_indices))
    for start in range(0, len(sequence_lengths), _CHUNK_SEQUENCES):
        yield sequence_lengths[start : start + _CHUNK_SEQUENCES].astype("<i4").tobytes()
    offset = 0
    for start in range(0, len(sequence_lengths), _CHUNK_SEQUENCES):
        sizes = sequence_lengths[start : start + _CHUNK_SEQUENCES].astype(np.int64) * np.dtype(dtype).itemsize
        ends = np.cumsum(sizes) + offset
        yield (ends - sizes).astype("<i8").tobytes()
        offset = int(ends[-1])
    for start in range(0, len(document_indices), _CHUNK_SEQUENCES):
        yield document_indices[start : start + _CHUNK_SEQUENCES].astype("<i8").tobytes()


def _map(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path}: no such file. A dataset is named by its prefix, the path without .bin and .idx; "
            "`zhgpt data build` makes one."
        ) from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # mmap's word for an empty file
        raise BadDataError(f"{path}: the file is empty; build the dataset again.") from error


def _map_tokens(path: Path, dtype: str) -> Tokens:
    if path.is_file() and path.stat().st_size == 0:
        return np.empty(0, dtype)
    buffer = _map(path)
    if len(buffer) % np.dtype(dtype).itemsize:
        raise BadDataError(
            f"{path}: {len(buffer)} bytes are not a whole number of {dtype} tokens; the file is truncated, "
            "copy it again or build the dataset again."
        )
    return np.frombuffer(buffer, np.dtype(dtype).newbyteorder("<"))


def _read_header(path: Path, index: mmap.mmap) -> tuple[str, int, int]:
    """Token dtype, number of sequences and length of the document index, checked against the file's size."""
    found = bytes(index[: len(MAGIC)])
    if found != MAGIC:
        raise BadDataError(
            f"{path}: begins with {found!r}, but a Megatron index begins with {MAGIC!r}; "
            "this is not the .idx file of an indexed dataset."
        )
    if len(index) < HEADER.size:
        raise BadDataError(
            f"{path}: {len(index)} bytes, but the header alone has {HEADER.size}; the file is truncated."
        )
    _, version, code, sequences, entries = HEADER.unpack_from(index)
    if version != VERSION:
        raise BadDataError(f"{path}: index version {version}, but only version {VERSION} is known.")
    if code not in DTYPE_CODES:
        known = ", ".join(f"{code} ({name})" for code, name in DTYPE_CODES.items())
        raise BadDataError(f"{path}: token type code {code} at byte 17; known codes for token ids: {known}.")
    expected = HEADER.size + 12 * sequences + 8 * entries
    if len(index) == expected + sequences and sequences:
        raise BadDataError(
            f"{path}: a multimodal index (a mode byte for each of {sequences} sequences at its end), "
            "which holds more than text; export its text as a plain indexed dataset."
        )
    if len(index) != expected:
        state = "truncated" if len(index) < expected else "damaged"
        raise BadDataError(
            f"{path}: {len(index)} bytes, but its header announces {sequences} sequences and {entries} document "
            f"entries, which make {expected}; the file is {state}, copy it again or build the dataset again."
        )
    if entries < 1:
        raise BadDataError(f"{path}: the document index is empty; even without documents it holds one entry.")
    return DTYPE_CODES[code], sequences, entries


def _check_ends(dataset: IndexedDataset, idx: Path, bin_: Path) -> None:
    """First and last entries, so that no later read can leave the map. `verify` looks at all of them."""
    sequences = len(dataset.sequence_lengths)
    first, last = int(dataset.document_indices[0]), int(dataset.document_indices[-1])
    if (first, last) != (0, sequences):
        raise BadDataError(
            f"{idx}: the document index runs from {first} to {last}, expected 0 to {sequences} (its sequences); "
            "the file is damaged."
        )
    itemsize = dataset.tokens.itemsize
    end = int(dataset.sequence_pointers[-1]) + itemsize * int(dataset.sequence_lengths[-1]) if sequences else 0
    found = len(dataset.tokens) * itemsize
    if end != found:
        state = "truncated" if found < end else "longer than its index says"
        raise BadDataError(
            f"{bin_}: {found} bytes, but {idx.name} says its last sequence ends at byte {end}; the file is {state}, "
            "copy it again or build the dataset again."
        )
