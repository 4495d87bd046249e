"""An ablation's folder: where its plan, probes, runs, logs, locks and report lie, and the lock of one run."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zhgpt.errors import StorageError
from zhgpt.train.run_folder import RunFolder, now


@dataclass(frozen=True)
class AblationFolder:
    """Paths inside ``ablations/<name>``."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def search_journal(self) -> Path:
        return self.path / "search.journal"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def deepspeed(self, variant: str) -> Path:
        """The variant's own DeepSpeed JSON."""
        return self.path / "deepspeed" / f"{variant}.json"

    def draft(self, variant: str) -> Path:
        """The DeepSpeed JSON of a variant that is being planned; no run reads it."""
        return self.path / "drafts" / f"{variant}.json"

    def probe(self, variant: str) -> Path:
        """The folder of the variant's probes."""
        return self.path / "probes" / variant

    def run(self, name: str) -> RunFolder:
        """An ordinary run's folder."""
        return RunFolder(self.runs / name)

    def log(self, name: str) -> Path:
        """What the run printed, over all its starts."""
        return self.logs / f"{name}.log"

    def lock(self, name: str) -> Path:
        """Held by whoever runs this run, or plans."""
        return self.path / "locks" / f"{name}.lock"


@contextmanager
def held(path: Path, *, wait: bool = False) -> Iterator[int | None]:
    """Holds a lock while the block runs; gives its file descriptor, or None where a live process has it.

    A child that inherits the descriptor holds the lock too: it is free only when both have ended, however they ended.

    Args:
        path: the lock's file; its folder is made.
        wait: wait for whoever has it.

    Raises:
        StorageError: the file cannot be made, or the file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}); choose another folder with --dir") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be locked ({error.strerror}); put the ablation on a file system with flock (mount Lustre "
                "with -o flock)"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a live process holds the lock, as far as this host can tell."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
