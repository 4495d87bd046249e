"""JSON Lines files that are appended to while a run lives, and that survive its death.

One JSON object a line, UTF-8, ended by a line feed. A process that is killed can leave half a line at the end; readers
report such a line and go on. Numbers that JSON cannot hold (NaN, infinities) are written as ``null`` and named beside
it, so that every line stays valid JSON (RFC 8259)::

    {"step": 30, "loss": null, "non_finite": {"loss": "nan"}}
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from megatron_style_data.atomic import atomic_write_bytes, fsync_folder
from zhgpt.errors import MissingInputError, StorageError

NON_FINITE = "non_finite"
"""The key that names the fields of a line whose value is not a finite number."""


@dataclass(frozen=True)
class DamagedLine:
    """A line that is not a JSON object: its number (1-based), its bytes, and why it was not read."""

    number: int
    content: bytes
    reason: str


@dataclass(frozen=True)
class JsonLines:
    """What a file holds: the objects in order, and the lines that could not be read."""

    records: list[dict[str, Any]]
    damaged: list[DamagedLine]


@dataclass(frozen=True)
class Trimmed:
    """How many lines stayed, how many were moved aside, and how many of those were damaged."""

    kept: int
    dropped: int
    damaged: int


def encode_line(record: Mapping[str, Any]) -> bytes:
    """One line of standard JSON with its line feed.

    Args:
        record: fields by name; a float that is NaN or infinite becomes ``null`` and is named under ``non_finite``.

    Raises:
        TypeError, ValueError: a value that JSON cannot hold (a tensor, a NaN inside a nested value): our own mistake.
    """
    line = dict(record)
    odd = {key: str(value) for key, value in line.items() if isinstance(value, float) and not math.isfinite(value)}
    if odd:
        line.update(dict.fromkeys(odd))
        line[NON_FINITE] = odd
    text = json.dumps(line, ensure_ascii=False, allow_nan=False)
    # backslashreplace: half a surrogate pair (a file name that is not UTF-8) becomes JSON's own escape for it.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """The object in one line, with NaN and infinities put back as floats.

    Raises:
        ValueError: the line is not a JSON object in UTF-8; the message says what is wrong with it.
    """
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object but {type(record).__name__}")
    odd = record.pop(NON_FINITE, None)
    for key, text in odd.items() if isinstance(odd, dict) else ():
        if text in ("nan", "inf", "-inf"):
            record[key] = float(text)
    return record


def read_json_lines(path: Path) -> JsonLines:
    """All objects of a file; lines that cannot be read are reported, not raised.

    Raises:
        MissingInputError: there is no such file.
        StorageError: the file cannot be read.
    """
    records: list[dict[str, Any]] = []
    damaged: list[DamagedLine] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            records.append(decode_line(line))
        except ValueError as error:
            damaged.append(DamagedLine(number, line, str(error)))
    return JsonLines(records, damaged)


def trim_json_lines(path: Path, dropped_path: Path, keep: Callable[[dict[str, Any]], bool]) -> Trimmed:
    """Take out the lines that ``keep`` refuses and the damaged ones, and append them to ``dropped_path``.

    The file is replaced in one step. The lines taken out are on the disk before they leave the file: a crash in
    between can repeat lines in ``dropped_path`` but never loses one. A file that does not exist is left so.

    Raises:
        StorageError: a file cannot be read or written.
    """
    if not path.exists():
        return Trimmed(0, 0, 0)
    kept: list[bytes] = []
    dropped: list[bytes] = []
    damaged = 0
    for line in _lines(path):
        if not line.strip():
            continue
        try:
            (kept if keep(decode_line(line)) else dropped).append(line + b"\n")
        except ValueError:
            damaged += 1
            dropped.append(line + b"\n")
    ends_whole = path.read_bytes()[-1:] in (b"", b"\n")
    if dropped:
        _append_durably(dropped_path, b"".join(dropped))
    if dropped or not ends_whole:
        atomic_write_bytes(path, b"".join(kept))
    return Trimmed(len(kept), len(dropped), damaged)


class JsonLinesWriter:
    """Appends objects to a JSON Lines file; each line reaches the operating system before ``write`` returns."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending; half a line left there by a crash is closed off, so that it stays alone.

        Raises:
            StorageError: the file cannot be opened or written.
        """
        self.path = path
        try:
            is_new = not path.exists()
            self._file: BinaryIO = path.open("ab+")
            if self._file.seek(0, os.SEEK_END):
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":
                    self._file.write(b"\n")
            if is_new:
                fsync_folder(path.parent)
        except OSError as error:
            raise self._storage_error(error) from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one object.

        Raises:
            StorageError: the line could not be written (disk full, quota, folder gone).
        """
        line = encode_line(record)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._storage_error(error) from error

    def sync(self) -> None:
        """Make all lines so far survive a power cut.

        Raises:
            StorageError: the disk refused.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._storage_error(error) from error

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> "JsonLinesWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _storage_error(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path}: cannot append a line: {error.strerror or error}; "
            "free space or repair the folder's permissions, then start the same command again to resume"
        )


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot read: {error.strerror or error}") from error


def _append_durably(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot keep the lines of steps that will be run again: {error.strerror or error}; "
            "free space or repair the folder's permissions, then start the same command again"
        ) from error
