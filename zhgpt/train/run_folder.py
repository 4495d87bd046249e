"""A run's folder: its layout, the lock that keeps a second writer out, and the exit status."""

import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from megatron_style_data.atomic import atomic_write_json, atomic_write_text
from zhgpt.errors import StorageError, UserError


@dataclass(frozen=True)
class RunFolder:
    """Paths inside ``runs/<name>``."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "run_config.yaml"

    @property
    def deepspeed(self) -> Path:
        return self.path / "deepspeed.json"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def exit_status(self) -> Path:
        return self.path / "exit_status.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def held_out_documents(self) -> Path:
        return self.path / "held_out_documents.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    def has_run(self) -> bool:
        """Whether a run has been here: it left metrics or a checkpoint."""
        return self.metrics.exists() or any(self.checkpoints.glob("step-*/COMPLETE"))


def now() -> str:
    """The present instant, ISO 8601 with offset."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


class RunLock:
    """Holds ``run.lock`` while a run lives; the kernel frees it however the process ends."""

    def __init__(self, folder: RunFolder) -> None:
        """Takes the lock.

        Raises:
            StorageError: a live run holds it, or the folder cannot be written.
        """
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            self._handle: IO[str] = folder.lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise StorageError(
                f"{folder.path}: cannot write the run's folder ({error.strerror}); choose another run.dir"
            ) from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._handle.seek(0)
            holder = self._handle.read().strip() or "an unknown process"
            self._handle.close()
            raise StorageError(
                f"{folder.path}: in use by a live run ({holder}); wait for it, stop it, or choose another run.dir"
            ) from None
        except OSError as error:
            self._handle.close()
            raise StorageError(
                f"{folder.lock}: cannot be locked ({error.strerror}); put run.dir on a file system with flock (mount Lustre "
                "with -o flock)"
            ) from None
        self._handle.truncate(0)
        self._handle.write(f"process {os.getpid()} on {socket.gethostname()} since {now()}")
        self._handle.flush()

    def release(self) -> None:
        """Frees the lock."""
        self._handle.close()


@contextmanager
def exit_status_of(folder: RunFolder, rank: int, world_size: int, steps: int) -> Iterator[None]:
    """Writes ``exit_status.json`` for what happens inside; torchrun and a bare ``deepspeed`` lose the exit code.

    The first rank that fails says why; 0 is written only when the target step was reached.
    """
    try:
        yield
    except BaseException as error:
        if not folder.exit_status.exists():
            write_exit_status(folder, *code_and_reason(error), rank, world_size)
        raise
    if rank == 0:
        write_exit_status(folder, 0, f"reached step {steps}", rank, world_size)


@contextmanager
def exit_status_of_refusal(run_dir: Path | None, rank: int | None, world_size: int) -> Iterator[None]:
    """Writes ``exit_status.json`` for a start that fails inside, before it has taken the run's folder.

    A live run's status stays its own, and the first rank that fails says why.

    Args:
        run_dir: the run's folder, None where it cannot be told or this process does not speak.
        rank: of this process, None for the launcher.
        world_size: ranks that were to run.
    """
    folder = RunFolder(run_dir) if run_dir is not None else None
    said = _content(folder.exit_status) if folder is not None else None
    try:
        yield
    except BaseException as error:
        if folder is not None and _content(folder.exit_status) == said:
            with suppress(
                StorageError
            ):  # in use, or not to be written: what went wrong first is what the user must read
                lock = RunLock(folder)
                try:
                    write_exit_status(folder, *code_and_reason(error), rank, world_size)
                finally:
                    lock.release()
        raise


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def code_and_reason(error: BaseException) -> tuple[int, str]:
    """The exit code of an error and its sentence; a bug has code 1 and its type."""
    if isinstance(error, UserError):
        return error.exit_code, str(error)
    return 1, f"{type(error).__name__}: {error}"


def write_exit_status(folder: RunFolder, exit_code: int, reason: str, rank: int | None, world_size: int) -> None:
    """Writes ``exit_status.json``; ``rank`` is None where the launcher speaks."""
    status = {"exit_code": exit_code, "reason": reason, "rank": rank, "world_size": world_size}
    atomic_write_json(folder.exit_status, {**status, "host": socket.gethostname(), "at": now()})


def write_killed_status(folder: RunFolder, exit_code: int, reason: str, world_size: int) -> None:
    """Written by the launcher for a rank that was killed: the other ranks only know that they lost their connection."""
    said = read_exit_status(folder)
    if folder.path.is_dir() and (said is None or said["exit_code"] == 1):
        write_exit_status(folder, exit_code, reason, None, world_size)


def read_exit_status(folder: RunFolder) -> dict[str, Any] | None:
    """The last attempt's exit status, or None while it runs or when it was killed."""
    try:
        loaded: dict[str, Any] = json.loads(folder.exit_status.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return loaded


def write_run_files(
    folder: RunFolder, config_yaml: str, deepspeed_config: dict[str, Any], environment: dict[str, Any]
) -> None:
    """Writes what was decided at start: configuration, composed DeepSpeed JSON, environment."""
    atomic_write_text(folder.config, config_yaml)
    atomic_write_json(folder.deepspeed, deepspeed_config)
    atomic_write_json(folder.environment, environment)
