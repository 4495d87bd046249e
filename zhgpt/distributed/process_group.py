"""Joining the ranks: device, process group, and a small gloo group for agreement between ranks."""

import datetime
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed

from zhgpt.distributed.environment import (
    RankEnvironment,
    export_device_number,
    export_rank_environment,
    threads_for_rank,
)
from zhgpt.distributed.memory import keep_freed_memory
from zhgpt.distributed.op_builds import settle_shm_op
from zhgpt.errors import SettingError, StorageError, UserError

T = TypeVar("T")
ONE_PROCESS_A_GPU = "start one process a GPU, and let each see its own (srun --gpus-per-task=1) or all of them"


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
        SettingError: more ranks than GPUs on a host, two ranks on one GPU, or another number of hosts than asked for.
            Raised on every rank that it concerns.
    """
    torch.set_num_threads(threads_for_rank(environment.local_world_size))
    keep_freed_memory(accelerator)
    device = choose_device(environment, accelerator)
    timeout = limit_waiting(timeout_seconds)
    import deepspeed

    settle_shm_op()
    if not torch.distributed.is_initialized():
        try:
            deepspeed.init_distributed(
                dist_backend="nccl" if accelerator == "cuda" else "gloo",
                auto_mpi_discovery=False,
                timeout=timeout,
                verbose=False,
            )
        except RuntimeError as error:
            shared = shared_gpu(error)
            if shared is None:
                raise
            raise shared from None
    control_group = torch.distributed.new_group(backend="gloo", timeout=timeout)
    places: list[Any] = [None] * environment.world_size
    torch.distributed.all_gather_object(places, (socket.gethostname(), gpu_identity(device)), group=control_group)
    ranks = Ranks(
        environment.rank,
        environment.local_rank,
        environment.world_size,
        accelerator,
        device,
        tuple(host for host, _ in places),
        environment.launcher,
        control_group,
    )
    check_hosts(ranks, expected_hosts or environment.asked_hosts)
    check_gpus(places)
    return ranks


def choose_device(environment: RankEnvironment, accelerator: Literal["cpu", "cuda"]) -> torch.device:
    """This rank's device, made current here and for DeepSpeed: the GPU of its local rank, or the only one that its scheduler
    lets it see.

    Raises:
        SettingError: more ranks than GPUs on this host.
    """
    if accelerator == "cpu":
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    # srun --gpus-per-task and mpirun with a wrapper show each rank one GPU, as number 0; the other launchers show all.
    bound = visible == 1 and environment.launcher in ("srun", "mpirun")
    if environment.local_world_size > visible and not bound:
        raise SettingError(
            f"{environment.local_world_size} ranks were started on {socket.gethostname()}, but torch sees {visible} GPUs "
            "there; start one process a GPU"
        )
    number = 0 if bound else environment.local_rank
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    export_device_number(number)
    return device


def gpu_identity(device: torch.device) -> str | None:
    """The GPU's UUID, which does not depend on what this process sees; None on a CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def check_gpus(places: Sequence[tuple[str, str | None]]) -> None:
    """Refuses two ranks on one GPU; NCCL would say no more than "invalid usage".

    Args:
        places: host and GPU of every rank, in rank order.
    """
    owners: dict[tuple[str, str], int] = {}
    for rank, (host, gpu) in enumerate(places):
        if gpu is None:
            continue
        first = owners.setdefault((host, gpu), rank)
        if first != rank:
            raise SettingError(f"ranks {first} and {rank} both have GPU {gpu} of {host}; {ONE_PROCESS_A_GPU}")


def shared_gpu(error: RuntimeError) -> SettingError | None:
    """The sentence for NCCL's own finding, while it connects, that two ranks have one GPU; None where it is not that."""
    if "Duplicate GPU" not in str(error):
        return None
    found = next(line.strip() for line in str(error).splitlines() if "Duplicate GPU" in line)
    return SettingError(f"two ranks have one GPU on {socket.gethostname()} (NCCL: {found}); {ONE_PROCESS_A_GPU}")


def limit_waiting(timeout_seconds: float) -> datetime.timedelta:
    """Makes ``timeout_seconds`` the time-out of every group that is made from here on; call it before the first one.

    DeepSpeed makes ZeRO's own groups with ``new_group(ranks)`` (deepspeed/comm/torch.py), which takes torch's default of
    30 minutes (10 with NCCL), whatever ``init_distributed`` was given. There is no public setter for it: new_group reads
    these two names of torch/distributed/distributed_c10d.py.
    """
    timeout = datetime.timedelta(seconds=timeout_seconds)
    torch.distributed.distributed_c10d.default_pg_timeout = timeout
    torch.distributed.distributed_c10d.default_pg_nccl_timeout = timeout
    return timeout


def lost_rank(error: RuntimeError, timeout_seconds: float) -> UserError | None:
    """The sentence for a collective that another rank never joined, or None where that is not what happened.

    With NCCL the process is ended by its watchdog instead, which writes a sentence of its own.
    """
    text = str(error)
    if "imed out" in text:
        found = f"another rank has not answered for {timeout_seconds:.0f} s (launch.timeout_seconds)"
    elif "onnection" in text and ("closed by peer" in text or "reset by peer" in text):
        found = "the connection to another rank broke, which has ended or whose host is gone"
    else:
        return None
    return UserError(
        f"{found}; look for the rank that stopped first in logs/rank_*.log, then start the same command again to go on from "
        f"the newest checkpoint. {text.splitlines()[0][:200]}"
    )


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


def leave() -> None:
    """Destroys the process groups; safe to call when none were made."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
