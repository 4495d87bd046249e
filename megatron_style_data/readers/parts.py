"""A part of a large file that one worker reads: a range of bytes, or of row groups of a Parquet file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilePart:
    """Units [start, end) of a file.

    The unit is a byte where the file is lines without compression, and a row group where it is Parquet. A record belongs
    to the part in which its first byte lies, so parts that follow each other give every record once, in order.
    """

    start: int
    end: int
