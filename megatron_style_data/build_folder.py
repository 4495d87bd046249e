"""The private folder of a build, ``.NAME.building`` beside the output: locked while a build works in it.

When a build is interrupted it stays, and the next build goes on with the units that are finished in it
(``build_units.py``). Shares of one build on several machines work in it at the same time, each with a shared lock.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError
from megatron_style_data.publish import refuse_existing, take_back_unfinished


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
def private_folder(prefix: Path, force: bool, *, keep: bool = False) -> Iterator[Path]:
    """The folder of a build that is alone in it. It stays when the build is interrupted, and goes when it is done.

    Args:
        prefix: The output.
        force: Whether the output is replaced.
        keep: Whether it also stays when settings or input turn out to be wrong, as others did the work in it.

    Raises:
        StorageError: Another build holds it, or the output exists and is not to be replaced.
    """
    folder = path_building(prefix)
    with locked_folder(folder):
        try:
            take_back_unfinished(folder, prefix)
            if not force:
                refuse_existing(prefix)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            yield folder
        except (BadDataError, MissingInputError, SettingError):
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def shared_folder(prefix: Path, force: bool) -> Iterator[Path]:
    """The folder of a build of which this is one share; it always stays.

    Raises:
        StorageError: A build that is not a share holds it, or the output exists and is not to be replaced.
    """
    if not force:
        refuse_existing(prefix)
    folder = path_building(prefix)
    with locked_folder(folder, shared=True):
        yield folder


@contextmanager
def locked_folder(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Makes `folder` and holds it for this build alone, or for shares only; takes it away in the end if it is empty.

    Raises:
        StorageError: Another build holds it, or it cannot be made.
    """
    with ExitStack() as stack:
        lock = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A file, opened for reading and writing: network file systems lock nothing else for all hosts.
            file = stack.enter_context(open(lock, "a+b"))
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
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
