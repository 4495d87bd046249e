"""DeepSpeed's C++ ops: built only where they are asked for, in a folder of this environment, one process at a time."""

import fcntl
import hashlib
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from zhgpt.distributed.environment import build_ops_requested, use_private_extensions_folder
from zhgpt.errors import StorageError

BUILD_TIMEOUT_SECONDS = 600.0


def settle_shm_op() -> None:
    """Switches DeepSpeed's shared-memory op off, or builds it once under a lock.

    ``init_distributed`` would compile the op just in time (needs g++ and ninja, 30-70 s), and a killed build leaves a lock
    behind that later runs wait for without end. Training's all-reduce does not use the op, so it is off unless
    ``ZHGPT_BUILD_OPS=1``.
    """
    import deepspeed
    from deepspeed.comm.torch import build_shm_op

    if not build_ops_requested():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        return
    with building(instead="start without ZHGPT_BUILD_OPS=1"):
        build_shm_op()


@contextmanager
def building(*, instead: str) -> Iterator[None]:
    """Keeps other processes of this environment out while an op is built, or loaded, inside.

    Args:
        instead: what the user can do without the op; ends the sentence where another build takes too long.

    Raises:
        StorageError: another process is still building after ten minutes.
    """
    import deepspeed

    identity = (
        f"{sys.prefix}|{platform.python_version()}|{torch.__version__}|{deepspeed.__version__}|{platform.machine()}"
    )
    folder = use_private_extensions_folder(hashlib.sha256(identity.encode()).hexdigest()[:16])
    with locked(folder / "build.lock", BUILD_TIMEOUT_SECONDS, instead):
        for stale in folder.glob("*/lock"):  # nobody else builds here while we hold our lock: a killed build left it
            print(f"removing the stale build lock {stale} that a killed build left", file=sys.stderr)
            stale.unlink()
        yield


@contextmanager
def locked(path: Path, timeout_seconds: float, instead: str) -> Iterator[None]:
    """Holds an exclusive lock on ``path``; the kernel frees it when the process ends.

    Raises:
        StorageError: another process held it for ``timeout_seconds``.
    """
    give_up_at = time.monotonic() + timeout_seconds
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise StorageError(
                        f"{path}: another process has been building DeepSpeed's ops for {timeout_seconds:.0f} s; end it, "
                        f"or {instead}"
                    ) from None
                time.sleep(0.2)
        yield
