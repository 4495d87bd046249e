"""Finished units of a build on the disk: two files each, there completely or not at all.

``units/NNNNNN.tokens`` holds the ids of the unit's documents in their order. ``units/NNNNNN.records``, which appears
last and makes the unit finished, holds (little-endian)

    RECORD[documents]   one for each document
    JSON                key, counters and documents of each slice
    u64                 bytes of the JSON
    8 bytes             b"zhunit01"
"""

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_file
from megatron_style_data.encoding import EncodedTexts
from megatron_style_data.errors import StorageError
from megatron_style_data.readers import ReadCounters

RECORD = np.dtype([("hash", "<u8"), ("utf8_bytes", "<i8"), ("length", "<i4")])
_MAGIC = b"zhunit01"
_COUNTED = ("documents", "utf8_bytes", "dropped", "first_places", "changes")
_TAIL = struct.Struct("<Q8s")


@dataclass(frozen=True, slots=True)
class FinishedUnit:
    """What a finished unit holds.

    Attributes:
        key: What it was made from (``build_plan.unit_key``).
        documents: How many.
        tokens: Their tokens.
        token_bytes: Size of the file of tokens.
        utf8_bytes: Bytes of their texts.
        slice_documents: Documents of each of its slices.
        slice_counters: What was read, changed and dropped in each.
    """

    key: str
    documents: int
    tokens: int
    token_bytes: int
    utf8_bytes: int
    slice_documents: list[int]
    slice_counters: list[ReadCounters]


class UnitWriter:
    """Takes the documents of one unit; see ``writing_unit``."""

    def __init__(self, tokens: Any, records: Any) -> None:
        """Writes to two open binary files."""
        self._tokens, self._records = tokens, records
        self._slices: list[tuple[int, ReadCounters]] = []
        self.documents = self.tokens = self.token_bytes = self.utf8_bytes = 0

    def append(self, encoded: EncodedTexts) -> None:
        """Adds documents."""
        records = np.empty(len(encoded.lengths), RECORD)
        records["hash"], records["utf8_bytes"] = encoded.hashes, encoded.utf8_bytes
        records["length"] = encoded.lengths
        self._tokens.write(encoded.tokens.data)
        self._records.write(records.tobytes())
        self.documents += len(records)
        self.tokens += len(encoded.tokens)
        self.token_bytes += encoded.tokens.nbytes
        self.utf8_bytes += int(encoded.utf8_bytes.sum())

    def end_slice(self, counters: ReadCounters) -> None:
        """Ends a slice, in which ``counters`` counted."""
        self._slices.append((self.documents - sum(documents for documents, _ in self._slices), counters))

    def finished(self, key: str) -> FinishedUnit:
        """What was written so far."""
        return FinishedUnit(
            key=key,
            documents=self.documents,
            tokens=self.tokens,
            token_bytes=self.token_bytes,
            utf8_bytes=self.utf8_bytes,
            slice_documents=[documents for documents, _ in self._slices],
            slice_counters=[counters for _, counters in self._slices],
        )


@contextmanager
def writing_unit(folder: Path, number: int, key: str) -> Iterator[UnitWriter]:
    """Yields the writer of a unit, which is finished and safe on the disk when the block ends well.

    Raises:
        StorageError: The disk is full or fails. What other units hold stays.
    """
    _path(folder, number, "records").unlink(missing_ok=True)  # of other settings: never beside new tokens
    try:
        with atomic_file(_path(folder, number, "records")) as records:
            with atomic_file(_path(folder, number, "tokens")) as tokens:
                writer = UnitWriter(tokens, records)
                yield writer
            content = json.dumps(_content(writer.finished(key)), ensure_ascii=False).encode()
            records.write(content + _TAIL.pack(len(content), _MAGIC))
    except StorageError as error:
        raise StorageError(
            f"{error} What is done so far stays there; make room and run the same command to go on."
        ) from error


def finished_unit(folder: Path, number: int) -> FinishedUnit | None:
    """What is known of a unit; None if it is not finished.

    Raises:
        StorageError: Its files cannot be read or are damaged.
    """
    path = _path(folder, number, "records")
    try:
        with open(path, "rb") as file:
            size = file.seek(-_TAIL.size, os.SEEK_END)
            length, magic = _TAIL.unpack(file.read(_TAIL.size))
            if magic != _MAGIC or length > size:
                raise StorageError(f"{path}: is damaged; remove the folder {folder} and start the build again.")
            file.seek(size - length)
            content = json.loads(file.read(length))
        tokens = _path(folder, number, "tokens").stat().st_size
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read ({error}); remove the folder {folder} and start again.") from error
    counters = [ReadCounters(**counted) for counted in content.pop("slice_counters")]
    unit = FinishedUnit(slice_counters=counters, **content)
    return unit if tokens == unit.token_bytes else None


def remove_unfinished(folder: Path) -> None:
    """Takes away what a killed build left half written; no other build may work in ``folder``."""
    for path in (folder / "units").glob(".*.partial-*"):
        with suppress(FileNotFoundError):
            path.unlink()


def read_records(folder: Path, number: int, documents: int) -> NDArray[np.void]:
    """(documents,) of ``RECORD`` of a finished unit."""
    return np.fromfile(_path(folder, number, "records"), RECORD, documents)


def path_tokens(folder: Path, number: int) -> Path:
    """The file of the ids of a finished unit."""
    return _path(folder, number, "tokens")


def _content(unit: FinishedUnit) -> dict[str, Any]:
    counted = [{name: getattr(counters, name) for name in _COUNTED} for counters in unit.slice_counters]
    return {**asdict(unit), "slice_counters": counted}


def _path(folder: Path, number: int, kind: str) -> Path:
    return folder / "units" / f"{number:06}.{kind}"
