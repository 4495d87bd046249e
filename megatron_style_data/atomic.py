"""Files and folders that are there completely or not at all: written aside, fsynced, renamed."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from megatron_style_data.errors import StorageError

_STORAGE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Writes ``data`` to ``path``; a reader sees the old content or all of the new one.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8 to ``path``, atomically and with line ends as they are."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | Path, value: Any, *, indent: int | None = 2) -> None:
    """Writes ``value`` as JSON (Chinese readable, keys in their order, no NaN) and a final line end, atomically."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    atomic_write_text(path, text + "\n")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yields a binary file that appears at ``path`` when the block ends well, and nowhere when it raises.

    The folder of ``path`` is made if it is missing.

    Raises:
        StorageError: The file cannot be made, written or renamed (permission, disk full, a folder in its place).
    """
    target = Path(path)
    aside = _name_aside(target)
    try:
        with ExitStack() as stack:
            with _faults_named(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(aside, "xb"))
            with _storage_faults_named(target):
                yield file
                file.flush()
                os.fsync(file.fileno())
        with _faults_named(target):
            os.replace(aside, target)
            fsync_folder(target.parent)
    except BaseException:
        with suppress(OSError):  # the error that brought us here is the one to report
            aside.unlink()
        raise


@contextmanager
def atomic_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside ``path`` that takes its place when the block ends well; nothing stays if it raises.

    Args:
        path: Where the finished folder shall be.
        replace: Whether something that is there already gives way. It is moved aside first, so that a crash between
            the two renames leaves both versions on the disk and none at ``path``.

    Raises:
        StorageError: ``path`` exists and ``replace`` is false, or writing failed.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise StorageError(f"{target}: exists already; choose another output or remove it first.")
    aside = _name_aside(target)
    with _faults_named(target):
        aside.mkdir(parents=True)
    try:
        with _storage_faults_named(target):
            yield aside
        with _faults_named(target):
            _fsync_tree(aside)
            _move_into_place(aside, target, replace=replace)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def fsync_folder(folder: Path) -> None:
    """Makes renames and new names inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name_aside(target: Path) -> Path:
    # The same folder, so that the rename stays inside one file system; the leading dot keeps it out of globs.
    return target.parent / f".{target.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _move_into_place(aside: Path, target: Path, *, replace: bool) -> None:
    if not (replace and target.exists()):
        os.rename(aside, target)
        fsync_folder(target.parent)
        return
    old = target.parent / f".{target.name}.replaced-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    os.rename(target, old)
    try:
        os.rename(aside, target)
    except OSError:
        os.rename(old, target)
        raise
    fsync_folder(target.parent)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink()


def _fsync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        fsync_folder(Path(root))


@contextmanager
def _faults_named(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}.") from error


@contextmanager
def _storage_faults_named(target: Path) -> Iterator[None]:
    """Like ``_faults_named`` around a caller's block, where only faults of the disk are certainly about ``target``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE_FAULTS:
            raise
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}.") from error
