"""Joining the ranks: device, process group, and a small gloo group for agreement between ranks."""

import datetime
import fcntl
import hashlib
import platform
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed

from zhgpt.distributed.environment import (
    RankEnvironment,
    build_ops_requested,
    export_rank_environment,
    threads_for_rank,
    use_private_extensions_folder,
)
from zhgpt.distributed.memory import keep_freed_memory
from zhgpt.errors import SettingError, StorageError, UserError

T = TypeVar("T")

OPS_LOCK_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Ranks:
    """All ranks of this run as one of them sees it; made once by :func:`join_ranks`."""

    rank: int
    local_rank: int
    world_size: int
    accelerator: Literal["cpu", "cuda"]
    device: torch.device
    host_names: tuple[str, ...]
    """Host name of every rank, in rank order."""
    launcher: str
    control_group: Any
    """A gloo group for small messages, apart from the group that carries gradients."""

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes files for all."""
        return self.rank == 0

    @property
    def hosts(self) -> int:
        """Number of different hosts."""
        return len(set(self.host_names))

    def barrier(self) -> None:
        """Waits until every rank is here."""
        torch.distributed.barrier(group=self.control_group)

    def maximum(self, value: int) -> int:
        """The largest ``value`` over all ranks; how a stop flag is agreed."""
        tensor = torch.tensor([value], dtype=torch.int64)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX, group=self.control_group)
        return int(tensor.item())

    def sums(self, values: Sequence[float]) -> list[float]:
        """Element-wise sums over all ranks, in float64."""
        tensor = torch.tensor(list(values), dtype=torch.float64)
        torch.distributed.all_reduce(tensor, group=self.control_group)
        return [float(value) for value in tensor.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every rank, in rank order, on every rank."""
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value, group=self.control_group)
        return values

    def first_does(self, work: Callable[[], T]) -> T | None:
        """Runs ``work`` on rank 0 alone; its result there, None elsewhere.

        Raises:
            UserError: what ``work`` raised, on every rank.
        """
        result: T | None = None
        problem: UserError | None = None
        if self.is_first:
            try:
                result = work()
            except UserError as error:
                problem = error
            except OSError as error:
                problem = StorageError(f"rank 0 on {self.host_names[0]}: {error}")
        problem = self.gather(problem)[0]
        if problem is not None:
            raise problem
        return result

    def decided_by_first(self, work: Callable[[], T]) -> T:
        """Rank 0's result of ``work`` on every rank, so that views of a shared file system cannot differ.

        Raises:
            UserError: what ``work`` raised, on every rank.
        """
        return cast(T, self.gather(self.first_does(work))[0])


def choose_accelerator(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """The accelerator to run on.

    Raises:
        SettingError: CUDA is asked for and this torch sees none.
    """
    if asked == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        raise SettingError(
            f"launch.accelerator is cuda, but torch {torch.__version__} ({build}) sees no GPU on {socket.gethostname()}; "
            "check nvidia-smi and CUDA_VISIBLE_DEVICES, or set launch.accelerator=cpu"
        )
    return "cpu"


def join_ranks(
    environment: RankEnvironment,
    *,
    accelerator: Literal["cpu", "cuda"],
    expected_hosts: int | None = None,
    timeout_seconds: float = 1800.0,
) -> Ranks:
    """Initialises torch.distributed through DeepSpeed and compares what came out with what was asked for.

    Args:
        environment: from :func:`zhgpt.distributed.environment.read_rank_environment`.
        accelerator: from :func:`prepare_rank`.
        expected_hosts: ``launch.hosts`` of the run's configuration.
        timeout_seconds: how long a collective may wait for a rank.

    Raises:
        SettingError: more ranks than GPUs on a host, or another number of hosts than asked for. Raised on every rank
            that it concerns.
    """
    torch.set_num_threads(threads_for_rank(environment.local_world_size))
    keep_freed_memory(accelerator)
    device = torch.device("cpu")
    if accelerator == "cuda":
        if environment.local_world_size > torch.cuda.device_count():
            raise SettingError(
                f"{environment.local_world_size} ranks were started on {socket.gethostname()}, but torch sees "
                f"{torch.cuda.device_count()} GPUs there; start one process a GPU"
            )
        device = torch.device("cuda", environment.local_rank)
        torch.cuda.set_device(device)
    timeout = datetime.timedelta(seconds=timeout_seconds)
    import deepspeed

    settle_shm_op(environment)
    if not torch.distributed.is_initialized():
        deepspeed.init_distributed(
            dist_backend="nccl" if accelerator == "cuda" else "gloo",
            auto_mpi_discovery=False,
            timeout=timeout,
            verbose=False,
        )
    control_group = torch.distributed.new_group(backend="gloo", timeout=timeout)
    names: list[Any] = [None] * environment.world_size
    torch.distributed.all_gather_object(names, socket.gethostname(), group=control_group)
    ranks = Ranks(
        environment.rank,
        environment.local_rank,
        environment.world_size,
        accelerator,
        device,
        tuple(names),
        environment.launcher,
        control_group,
    )
    check_hosts(ranks, expected_hosts or environment.asked_hosts)
    return ranks


def prepare_rank(
    environment: RankEnvironment, accelerator: Literal["auto", "cpu", "cuda"], expected_world_size: int | None
) -> Literal["cpu", "cuda"]:
    """Checks what was started and settles the accelerator; DeepSpeed chooses its own when it is imported, so call it before.

    Raises:
        SettingError: no such accelerator, or another number of ranks than ``launch.world_size``.
    """
    check_world_size(environment, expected_world_size)
    chosen = choose_accelerator(accelerator)
    export_rank_environment(environment, chosen)
    return chosen


def check_world_size(environment: RankEnvironment, expected: int | None) -> None:
    """Refuses a start with another number of ranks than ``launch.world_size``."""
    if expected is not None and environment.world_size != expected:
        raise SettingError(
            f"launch.world_size asks for {expected} ranks, but {environment.launcher} started {environment.world_size}; "
            "check the host file and the number of processes a host, or change launch.world_size"
        )


def check_hosts(ranks: Ranks, expected: int | None) -> None:
    """Refuses a start on another number of hosts than asked for; a missing host file silently means one host."""
    if expected is not None and ranks.hosts != expected:
        raise SettingError(
            f"{expected} hosts were asked for, but the {ranks.world_size} ranks run on {ranks.hosts}: "
            f"{', '.join(sorted(set(ranks.host_names)))}; check that the host file exists and names every host "
            "(DeepSpeed goes on with one host where it does not), or change launch.hosts"
        )


def settle_shm_op(environment: RankEnvironment) -> None:
    """Switches DeepSpeed's shared-memory op off, or builds it once under a lock.

    ``init_distributed`` would compile the op just in time (needs g++ and ninja, 30-70 s), and a killed build leaves a lock
    behind that later runs wait for without end. Training's all-reduce does not use the op, so it is off unless
    ``ZHGPT_BUILD_OPS=1``.
    """
    import deepspeed

    if not build_ops_requested():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        return
    identity = (
        f"{sys.prefix}|{platform.python_version()}|{torch.__version__}|{deepspeed.__version__}|{platform.machine()}"
    )
    folder = use_private_extensions_folder(hashlib.sha256(identity.encode()).hexdigest()[:16])
    from deepspeed.comm.torch import build_shm_op

    with locked(folder / "build.lock", OPS_LOCK_TIMEOUT_SECONDS):
        for stale in folder.glob("*/lock"):  # nobody else builds here while we hold our lock: a killed build left it
            print(f"removing the stale build lock {stale} that a killed build left", file=sys.stderr)
            stale.unlink()
        build_shm_op()


@contextmanager
def locked(path: Path, timeout_seconds: float) -> Any:
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
                        f"{path}: another process has been building DeepSpeed's ops for {timeout_seconds:.0f} s; "
                        "end it, or start without ZHGPT_BUILD_OPS=1"
                    ) from None
                time.sleep(0.2)
        yield


def leave() -> None:
    """Destroys the process groups; safe to call when none were made."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
