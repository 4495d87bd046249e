"""The files whose documents are compared: parts of a cleaned corpus, or files of any format that a reader knows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.document import Document
from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, read_documents
from megatron_style_data.readers.byte_stream import byte_lines

_LONGEST_LINE = 1 << 30


@dataclass(frozen=True, slots=True)
class CleanShard:
    """A part of a cleaned corpus: JSON Lines, plain or compressed, whose line n holds document n, without exception."""

    path: Path

    def documents(self, counters: ReadCounters) -> Iterator[Document]:
        """Yields the documents in order.

        Raises:
            BadDataError: A line is not an object with a string under ``text``.
            MissingInputError: The file does not exist.
            StorageError: It cannot be read.
        """
        for number, line in byte_lines(self.path, _LONGEST_LINE):
            if line is None:
                raise BadDataError(f"{self.path}, line {number}: more than {_LONGEST_LINE} bytes; split the document.")
            record = _record(self.path, number, line)
            text, source = record.pop("text"), record.pop("source", None)
            counters.keep(0, {})
            yield Document(text, str(source or self.path.name), str(self.path), number, record)


@dataclass(frozen=True, slots=True)
class CorpusShard:
    """A file of any corpus, read as ``read_documents`` reads it."""

    file: InputFile
    options: ReadOptions = field(default_factory=ReadOptions)

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    def documents(self, counters: ReadCounters) -> Iterator[Document]:
        """Yields the documents that the reader hands out; raises what it raises."""
        return read_documents(self.file, self.options, counters)


Shard = CleanShard | CorpusShard


def chosen_documents(shard: Shard, numbers: NDArray[np.int64]) -> Iterator[Document]:
    """Yields the documents with these ascending numbers, from 0; reads no further than the last of them.

    Raises:
        BadDataError: The shard has fewer documents than when they were numbered. Also what reading it raises.
    """
    wanted = iter(numbers.tolist())
    next_wanted = next(wanted, None)
    for number, document in enumerate(shard.documents(ReadCounters())):
        if number == next_wanted:
            yield document
            next_wanted = next(wanted, None)
            if next_wanted is None:
                return
    if next_wanted is not None:
        raise BadDataError(f"{shard.path}: has changed while it was compared; start again.")


def state_of(path: Path) -> list[int]:
    """Size and time of change: whether a file is still the one that was read.

    Raises:
        MissingInputError: There is no such file.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        # Documents are read again to settle doubts and to be written, which a stream from the network is not made for.
        stream = " Save a stream as a file first (zhgpt corpus read)." if ":/" in str(path) else ""
        raise MissingInputError(f"{path}: no such file.{stream}") from error
    return [found.st_size, found.st_mtime_ns]


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadDataError(f"{path}, line {number}: not JSON ({error}); expected one object a line.") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise BadDataError(f'{path}, line {number}: expected an object with a string under "text".')
    return record
