"""A part of a large file that one worker reads: a range of bytes, or of row groups of a Parquet file."""

import re
from dataclasses import dataclass
from pathlib import Path

_COUNTED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class FilePart:
    """Units [start, end) of a file.

    The unit is a byte where the file is lines without compression, and a row group where it is Parquet. A record belongs
    to the part in which its first byte lies, so parts that follow each other give every record once, in order.
    """

    start: int
    end: int


def places_in_file(message: str, path: Path, part: FilePart) -> str:
    """``message`` with the line it names counted from the beginning of the file, where it was from that of a part.

    Args:
        message: Begins with ``PATH, line N``, as those of the readers of lines do; any other comes back as it is.
        path: The file without compression.
        part: The part of it in which lines were counted.
    """
    named = re.match(rf"({re.escape(str(path))}, line )(\d+)", message)
    if named is None or part.start == 0:
        return message
    return f"{named[1]}{int(named[2]) + lines_before(path, part.start)}{message[named.end() :]}"


def lines_before(path: Path, position: int) -> int:
    """How many lines of a file without compression begin before byte ``position``."""
    lines, begins_line = 0, True
    with open(path, "rb") as file:
        while position > 0 and (piece := file.read(min(_COUNTED_AT_ONCE, position))):
            lines += begins_line + piece.count(b"\n", 0, len(piece) - 1)
            begins_line = piece.endswith(b"\n")
            position -= len(piece)
    return lines
