"""The bytes of a plain, gzip or zstd file, decompressed in pieces; a cut or damaged file is never taken for its end."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import zstandard

from megatron_style_data.errors import BadDataError, MissingInputError, StorageError
from megatron_style_data.readers.parts import FilePart

_PIECE_BYTES = 1 << 18
# Small, because what comes out of one piece is held whole and zstd packs repetition 32,000 times.
_ZSTD_PIECE_BYTES = 1 << 11
_ZSTD_LARGEST_WINDOW = 1 << 31
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def byte_pieces(path: Path, part: FilePart | None = None) -> Iterator[bytes]:
    """Yields the decompressed content of ``path`` without a UTF-8 byte order mark, in pieces of any size but 0.

    Compression is recognised by the file's first bytes, whatever its name.

    Args:
        path: The file.
        part: Only the lines whose first byte lies in this range of a file without compression; None: all of it.

    Raises:
        MissingInputError: The file does not exist.
        StorageError: It cannot be read.
        BadDataError: It is cut, damaged, not what its name says, or UTF-16.
    """
    with _faults_named(path), open(path, "rb") as file:
        compression = _compression_of(path, file)
        if part is None:
            pieces = _DECOMPRESSORS[compression](path, file)
        else:
            assert compression == "plain", f"{path}: {compression} data is not read in parts"
            pieces = _lines_of_part(file, part)
            if part.start > 0:  # a byte order mark is one only at the beginning of a file
                yield from pieces
                return
        first = b""
        for piece in pieces:
            first += piece
            if len(first) >= len(_UTF8_BOM):
                break
        if first.startswith(_UTF16_BOMS):
            raise BadDataError(f"{path}: is UTF-16; expected UTF-8 (iconv -f UTF-16 -t UTF-8 converts it).")
        first = first.removeprefix(_UTF8_BOM)
        if first:
            yield first
        yield from filter(None, pieces)


def byte_lines(path: Path, longest: int, part: FilePart | None = None) -> Iterator[tuple[int, bytes | None]]:
    """Yields (line number from 1, line without its end); None stands for a line of more than ``longest`` bytes.

    Memory stays near ``longest`` however long a line is. With ``part`` only the lines that begin in it are read, and
    they are numbered from 1 at the part's first one; ``parts.places_in_file`` puts messages right. Raises what
    ``byte_pieces`` raises.
    """
    for first, lines in line_blocks(path, longest, part):
        yield from enumerate(lines, first)


def line_blocks(path: Path, longest: int, part: FilePart | None = None) -> Iterator[tuple[int, list[bytes | None]]]:
    """Yields the lines of ``byte_lines`` in blocks, as they come: (number of the first one, lines)."""
    number = 1
    held: list[bytes] = []
    held_bytes = 0
    for piece in byte_pieces(path, part):
        ends = piece.split(b"\n")
        rest = ends.pop()
        if ends:
            lines: list[bytes | None] = list(ends)
            if len(piece) > longest:
                lines = [end if len(end) <= longest else None for end in ends]
            if held_bytes:
                lines[0] = b"".join([*held, ends[0]]) if held_bytes + len(ends[0]) <= longest else None
                held, held_bytes = [], 0
            if b"\r" in piece or (lines[0] is not None and lines[0].endswith(b"\r")):
                lines = [None if line is None else line.removesuffix(b"\r") for line in lines]
            yield number, lines
            number += len(lines)
        held_bytes += len(rest)
        if held_bytes > longest:
            held = []
        elif rest:
            held.append(rest)
    if held_bytes:
        yield number, [b"".join(held).removesuffix(b"\r") if held_bytes <= longest else None]


def is_compressed(path: Path) -> bool:
    """Whether the file is gzip or zstd data. Raises what ``byte_pieces`` raises."""
    with _faults_named(path), open(path, "rb") as file:
        return _compression_of(path, file) != "plain"


def _plain_pieces(path: Path, file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _lines_of_part(file: BinaryIO, part: FilePart) -> Iterator[bytes]:
    at, end = _line_start(file, part.start), _line_start(file, part.end)
    file.seek(at)
    while at < end and (piece := file.read(min(_PIECE_BYTES, end - at))):
        at += len(piece)
        yield piece


def _line_start(file: BinaryIO, position: int) -> int:
    """Where the first line begins that begins at or after ``position``; the end of the file if none does."""
    if position == 0:
        return 0
    at = file.seek(position - 1)  # the byte before may be the end of a line
    while piece := file.read(_PIECE_BYTES):
        found = piece.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(piece)
    return file.seek(0, 2)


def _gzip_pieces(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        with gzip.open(file) as unpacked:
            while piece := unpacked.read(_PIECE_BYTES):
                yield piece
    except EOFError as error:
        raise BadDataError(f"{path}: the gzip data is cut off; get the whole file again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadDataError(f"{path}: the gzip data is damaged ({error}); get the file again.") from error


def _zstd_pieces(path: Path, file: BinaryIO) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_LARGEST_WINDOW)
    frame = decompressor.decompressobj()
    inside = False
    try:
        while packed := file.read(_ZSTD_PIECE_BYTES):
            while packed:
                yield from _cut(frame.decompress(packed))
                inside = not frame.eof
                packed = b"" if inside else frame.unused_data
                if not inside:
                    frame = decompressor.decompressobj()
    except zstandard.ZstdError as error:
        raise BadDataError(f"{path}: the zstd data is damaged ({error}); get the file again.") from error
    if inside:
        raise BadDataError(f"{path}: the zstd data is cut off; get the whole file again.")


def _cut(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces of the usual size: one of 30 MB of line ends would become 30 million lines at once."""
    if len(data) <= _PIECE_BYTES:
        yield data
        return
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


_DECOMPRESSORS: Mapping[str, Callable[[Path, BinaryIO], Iterator[bytes]]] = MappingProxyType(
    {"plain": _plain_pieces, "gzip": _gzip_pieces, "zstd": _zstd_pieces}
)
# Kinds of files that are no text and are not unpacked here: first bytes, name, and what unpacks them.
_ARCHIVES: Mapping[bytes, tuple[str, str]] = MappingProxyType(
    {
        b"PK\x03\x04": ("a zip archive", "unzip"),
        b"Rar!": ("a RAR archive", "unrar x"),
        b"7z\xbc\xaf": ("a 7-zip archive", "7z x"),
        b"\xfd7zX": ("xz data", "xz -d"),
        b"BZh": ("bzip2 data", "bzip2 -d"),
    }
)
_COMPRESSION_NAMES: Mapping[str, str] = MappingProxyType({".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"})


def _compression_of(path: Path, file: BinaryIO) -> str:
    start = file.read(4)
    file.seek(0)
    found = "plain"
    for magic, (what, unpacker) in _ARCHIVES.items():
        if start.startswith(magic):
            raise BadDataError(f"{path}: is {what}; expected text, gzip or zstd. Unpack it ({unpacker}) and read that.")
    if start.startswith(b"\x1f\x8b"):
        found = "gzip"
    elif start == b"\x28\xb5\x2f\xfd" or (start[1:] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F):
        found = "zstd"  # the second form is a skippable frame, with which some writers begin
    named = _COMPRESSION_NAMES.get(path.suffix.lower(), found)
    if named != found:
        what = "is empty" if not start else f"starts with {start.hex(' ')}"
        raise BadDataError(f"{path}: {what}; expected {named} data as its name says; get the whole file again.")
    return found


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file.") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
