"""Bad documents put aside: a JSON Lines file with the bytes of each, the reason and the place."""

import base64
import json
from pathlib import Path

from megatron_style_data.errors import StorageError
from megatron_style_data.readers.input_file import InputFile

QUARANTINED_BYTES = 1 << 20


def start_quarantine(path: Path) -> None:
    """Makes the empty quarantine file.

    Raises:
        StorageError: It exists already or cannot be made.
    """
    try:
        with open(path, "x"):
            pass
    except FileExistsError as error:
        raise StorageError(f"{path}: exists already; name another quarantine file, or move this one away.") from error
    except OSError as error:
        raise StorageError(f"{path}: the quarantine cannot be written: {error.strerror or error}.") from error


def quarantine(path: Path, file: InputFile, reason: str, place: str, found: str, content: bytes | None) -> None:
    """Appends one bad document as {file, place, reason, found, bytes, content_base64}.

    ``bytes`` is its whole size, ``content_base64`` holds its first MiB; both are null where it was too long to be held.
    Lines of a part of a file (``part_start``: its first byte) are counted from that part's first line. Each entry is
    one write to a file opened for appending, so several processes may share a quarantine; it is a log of what was left
    out, which nothing reads back.

    Raises:
        StorageError: It cannot be written.
    """
    entry = {"file": str(file.path), "place": place, "reason": reason, "found": found}
    if file.part is not None:
        entry["part_start"] = str(file.part.start)
    held = None if content is None else base64.b64encode(content[:QUARANTINED_BYTES]).decode("ascii")
    line = json.dumps({**entry, "bytes": None if content is None else len(content), "content_base64": held}) + "\n"
    data = line.encode("ascii")
    try:
        with open(path, "ab", buffering=0) as out:
            written = out.write(data)
    except OSError as error:
        raise StorageError(f"{path}: the quarantine cannot be written: {error.strerror or error}.") from error
    if written != len(data):
        raise StorageError(f"{path}: the quarantine could only be written in part; is the disk full?")
