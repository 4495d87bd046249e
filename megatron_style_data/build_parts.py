"""The private folder of a build: encoded documents in input order, as far as they are safely on the disk.

The folder lies beside the output as ``.NAME.building`` and is locked while a build works in it. When a build is
interrupted it stays, and the next build with the same settings goes on after the last document that was safe, provided
the input still begins with the same texts.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_write_json
from megatron_style_data.encoding import EncodedTexts
from megatron_style_data.errors import SettingError, StorageError

RECORD = np.dtype([("hash", "<u8"), ("utf8_bytes", "<i8"), ("length", "<i4"), ("source", "<i4")])
_SAFE_EVERY_BYTES = 1 << 24


def path_building(prefix: str | Path) -> Path:
    """The private folder of a build of PREFIX.

    Raises:
        SettingError: PREFIX has no name.
    """
    prefix = Path(prefix)
    if prefix.name in ("", ".."):
        raise SettingError(f"{prefix}: names a folder; expected a path with a name for the files, such as data/zh.")
    return prefix.with_name(f".{prefix.name}.building")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Makes `folder` and holds it for this build alone; takes it away in the end if it is empty.

    Raises:
        StorageError: Another build holds it, or it cannot be made.
    """
    with ExitStack() as stack:
        lock = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A file, opened for writing: network file systems lock nothing else for all hosts.
            file = stack.enter_context(open(lock, "ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except BlockingIOError as error:
            raise StorageError(f"{folder}: another build of this output is running; wait for it or stop it.") from error
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made: {error.strerror or error}.") from error
        if not same:
            raise StorageError(f"{folder}: another build of this output has just ended; start again.")
        yield
    # Network file systems keep a deleted file until it is closed, and its folder with it.
    with suppress(OSError):
        folder.rmdir()


class BuildParts:
    """Encoded documents of an unfinished build, appended in input order.

    Attributes:
        folder: The locked private folder.
        documents: How many there are.
        token_count: Their tokens.
        utf8_bytes: Bytes of their texts.
    """

    def __init__(self, folder: Path, dtype: str, signature: str) -> None:
        """Opens the parts that are there if they were made with the same settings, else begins anew.

        Args:
            folder: A locked folder.
            dtype: Name of the token type.
            signature: Says which settings and tokenizer the parts were made with.
        """
        self.folder = folder
        self._dtype = np.dtype(dtype)
        self._signature = signature
        documents = self._safe_documents()
        if documents == 0:
            shutil.rmtree(folder / "parts", ignore_errors=True)
        (folder / "parts").mkdir(exist_ok=True)
        self._tokens_file = _open_for_update(folder / "parts" / "tokens")
        self._records_file = _open_for_update(folder / "parts" / "records")
        self._unsafe_bytes = 0
        self.truncate(documents)

    def __enter__(self) -> "BuildParts":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self.make_safe()
        self._tokens_file.close()
        self._records_file.close()

    def append(self, encoded: EncodedTexts, sources: list[int]) -> None:
        """Adds documents.

        Args:
            encoded: The documents.
            sources: The number of the source of each.

        Raises:
            StorageError: The disk is full or fails.
        """
        records = np.empty(len(encoded.lengths), RECORD)
        records["hash"], records["utf8_bytes"] = encoded.hashes, encoded.utf8_bytes
        records["length"], records["source"] = encoded.lengths, sources
        with self._storage_faults():
            self._tokens_file.write(encoded.tokens.tobytes())
            self._records_file.write(records.tobytes())
        self.documents += len(records)
        self.token_count += len(encoded.tokens)
        self.utf8_bytes += int(encoded.utf8_bytes.sum())
        self._unsafe_bytes += encoded.tokens.nbytes
        if self._unsafe_bytes >= _SAFE_EVERY_BYTES:
            self.make_safe()

    def make_safe(self) -> None:
        """Brings everything so far to the disk and notes that it is there."""
        with self._storage_faults():
            for file in (self._tokens_file, self._records_file):
                file.flush()
                os.fsync(file.fileno())
        atomic_write_json(
            self.folder / "parts" / "safe.json", {"signature": self._signature, "documents": self.documents}
        )
        self._unsafe_bytes = 0

    def truncate(self, documents: int) -> None:
        """Keeps the first `documents` documents only."""
        self._records_file.flush()
        kept = self.records()[:documents]
        self.documents = documents
        self.token_count = int(kept["length"].sum(dtype=np.int64))
        self.utf8_bytes = int(kept["utf8_bytes"].sum())
        for file, end in (
            (self._records_file, documents * RECORD.itemsize),
            (self._tokens_file, self.token_count * self._dtype.itemsize),
        ):
            file.truncate(end)
            file.seek(end)

    def records(self) -> NDArray[np.void]:
        """(documents,) of `RECORD`, mapped from the disk."""
        return _mapped(self.folder / "parts" / "records", RECORD)

    def tokens(self) -> NDArray[np.void]:
        """(token_count,) ids in input order, mapped from the disk."""
        return _mapped(self.folder / "parts" / "tokens", self._dtype)

    def _safe_documents(self) -> int:
        try:
            safe = json.loads((self.folder / "parts" / "safe.json").read_bytes())
        except FileNotFoundError:
            return 0
        return int(safe["documents"]) if safe["signature"] == self._signature else 0

    @contextmanager
    def _storage_faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot be written: {error.strerror or error}. What is done so far stays there; "
                "make room and run the same command to go on."
            ) from error


def _open_for_update(path: Path) -> BinaryIO:
    path.touch()
    return open(path, "r+b")


def _mapped(path: Path, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r")
