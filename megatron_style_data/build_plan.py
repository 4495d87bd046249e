"""The plan of a build: its inputs cut into units of bounded size, always the same for the same files.

A unit is one worker's piece of work and one piece of an interrupted build that need not be done again. Large files
without compression are cut into ranges of bytes, Parquet files at row groups; a compressed file is one unit, as it can
only be read from its beginning; small files that follow each other make one unit together.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import xxhash

from megatron_style_data.errors import UserError
from megatron_style_data.readers import READERS, InputFile
from megatron_style_data.readers.byte_stream import byte_pieces, is_compressed
from megatron_style_data.readers.parts import FilePart

# With many units the folder of a build would have too many files, so they grow with the corpus.
UNIT_BYTES = 1 << 23
_MOST_UNITS = 1 << 13
# Encoding and field of the text are judged by the beginning of a file; Parquet's footer is at its end.
_LOOKED_AT_BYTES = 1 << 20
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Slice:
    """Files or parts of files that a unit reads one after the other.

    Attributes:
        file: The file, with its part if it is not read whole.
        index: Its number among the files of the corpus.
        bytes: Bytes of it on the disk.
    """

    file: InputFile
    index: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of the work.

    Attributes:
        number: From 0, in the order of the corpus.
        slices: What it reads.
    """

    number: int
    slices: tuple[Slice, ...]


def plan_units(files: Sequence[InputFile], smallest_bytes: int | None = None) -> list[Unit]:
    """Cuts a corpus into units.

    Args:
        files: The files, whole.
        smallest_bytes: Bytes on the disk from which a unit is full; None: chosen by the size of the corpus.
    """
    sizes = [_size(file.path) for file in files]
    if smallest_bytes is None:
        smallest_bytes = max(UNIT_BYTES, 1 << (sum(sizes) // _MOST_UNITS).bit_length())
    units: list[Unit] = []
    waiting: list[Slice] = []
    for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
        for piece in _slices(file, index, size, smallest_bytes):
            waiting.append(piece)
            if sum(one.bytes for one in waiting) >= smallest_bytes:
                units.append(Unit(len(units), tuple(waiting)))
                waiting = []
    if waiting:
        units.append(Unit(len(units), tuple(waiting)))
    return units


def unit_key(unit: Unit, signature: str) -> str:
    """What the finished unit depends on, as a SHA-256: its bytes, how they are read, and ``signature``.

    The bytes themselves are hashed, because a file can change and keep its size and time. Raises nothing for a file
    that is not there; reading it will.
    """
    content = [signature]
    for piece in unit.slices:
        part = None if piece.file.part is None else [piece.file.part.start, piece.file.part.end]
        content.append(json.dumps([str(piece.file.path), piece.file.format, part, _digest(piece.file)]))
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def _slices(file: InputFile, index: int, size: int, part_bytes: int) -> Iterator[Slice]:
    parts = _PARTS[READERS[file.format].parts](file, size, part_bytes) if size > part_bytes else []
    if len(parts) < 2:
        yield Slice(file, index, size)
        return
    for part, part_size in parts:
        yield Slice(replace(file, part=part), index, part_size)


def _no_parts(file: InputFile, size: int, part_bytes: int) -> list[tuple[FilePart, int]]:
    return []


def _line_parts(file: InputFile, size: int, part_bytes: int) -> list[tuple[FilePart, int]]:
    try:
        if is_compressed(file.path):
            return []
    except UserError:  # the reader will say what is wrong with the file
        return []
    bounds = [*range(0, size, part_bytes), size]
    return [(FilePart(start, end), end - start) for start, end in pairwise(bounds)]


def _row_group_parts(file: InputFile, size: int, part_bytes: int) -> list[tuple[FilePart, int]]:
    """Row groups in runs of about ``part_bytes``, by their places in the file."""
    parts: list[tuple[FilePart, int]] = []
    first, held = 0, 0
    places = _row_groups(file.path)
    for group, (start, end) in enumerate(places):
        held += end - start
        if held >= part_bytes or group == len(places) - 1:
            parts.append((FilePart(first, group + 1), held))
            first, held = group + 1, 0
    return parts


def _row_groups(path: Path) -> list[tuple[int, int]]:
    """Where each row group of a Parquet file begins and ends, in bytes; nothing if its footer cannot be read."""
    import pyarrow.parquet  # here, because only Parquet corpora should wait for it to load

    try:
        metadata = pyarrow.parquet.read_metadata(path)
    except (pyarrow.ArrowException, OSError):  # the reader will say what is wrong with the file
        return []
    places = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        columns = [row_group.column(number) for number in range(row_group.num_columns)]
        starts = [
            column.data_page_offset
            if column.dictionary_page_offset is None
            else min(column.dictionary_page_offset, column.data_page_offset)
            for column in columns
        ]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        places.append((min(starts), max(ends)))
    return places


_PARTS: Mapping[str | None, Callable[[InputFile, int, int], list[tuple[FilePart, int]]]] = MappingProxyType(
    {"lines": _line_parts, "row_groups": _row_group_parts, None: _no_parts}
)


def _digest(file: InputFile) -> str | None:
    """xxh3-128 of what a slice reads, and of what a reader of a part looks at besides to know how to read it."""
    digest = xxhash.xxh3_128()
    try:
        with open(file.path, "rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            if file.part is not None:
                footer = READERS[file.format].parts == "row_groups"
                opened.seek(max(0, size - _LOOKED_AT_BYTES) if footer else 0)
                digest.update(opened.read(_LOOKED_AT_BYTES))
        for piece in _bytes_of(file, size):
            digest.update(piece)
    except (OSError, UserError):  # the reader will say what is wrong with the file
        return None
    return digest.hexdigest()


def _bytes_of(file: InputFile, size: int) -> Iterator[bytes]:
    start, end = 0, size
    if file.part is not None:
        if READERS[file.format].parts == "lines":
            yield from byte_pieces(file.path, file.part)
            return
        groups = _row_groups(file.path)[file.part.start : file.part.end]
        start, end = groups[0][0], groups[-1][1]
    with open(file.path, "rb") as opened:
        opened.seek(start)
        while start < end and (piece := opened.read(min(_READ_BYTES, end - start))):
            start += len(piece)
            yield piece


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # the reader will say what is wrong with the file
        return 0
