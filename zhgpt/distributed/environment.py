"""The rank's environment variables: the only file of the project that reads or sets ``os.environ``.

``deepspeed``, ``torchrun``, our own launcher, ``srun`` with one task a rank and ``mpirun`` each tell a process who it is in
variables of their own; :func:`read_rank_environment` turns any of them into one :class:`RankEnvironment`.
"""

import os
import random
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zhgpt.errors import SettingError

PORTS = range(20000, 32000)
"""Ports that ranks meet at. Linux gives outgoing connections those from 32768 up (``ip_local_port_range``): one of them may
be a connection's by the time a rank has imported torch and listens."""


@dataclass(frozen=True)
class RankEnvironment:
    """What a launcher told this process: torch's meanings of rank, local rank and world size."""

    launcher: str
    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    master_address: str
    master_port: int
    asked_hosts: int | None
    """Hosts that the scheduler or our launcher promised; None where nobody said."""


@dataclass(frozen=True)
class HostPlace:
    """Where this host stands in a start over several hosts, as far as Slurm says."""

    hosts: int
    host_rank: int
    master_address: str
    master_port: int


@dataclass(frozen=True)
class SlurmJob:
    """The Slurm job that this process belongs to."""

    number: str
    restarts: int
    """How often Slurm has started it again: after a requeue, or when a node was lost."""


def _integer(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except KeyError:
        raise SettingError(
            f"environment variable {name} is missing though the launcher set others; start with "
            "`zhgpt pretrain`, `deepspeed`, `torchrun`, `srun` or `mpirun`"
        ) from None
    except ValueError:
        raise SettingError(f"environment variable {name} is {environ[name]!r}, expected a whole number") from None


def first_slurm_host(nodelist: str) -> str:
    """The first host of a Slurm node list such as ``gpu[03-05,9],login1`` -> ``gpu03``."""
    entry = re.match(r"(?:[^\[\],]+(?:\[[^\]]+\])?)+", nodelist)  # up to the first comma outside brackets
    if entry is None:
        raise SettingError(f"cannot read the Slurm node list {nodelist!r}; set MASTER_ADDR to the first host")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", entry.group())


def slurm_port(job_id: str, step_id: str = "0") -> int:
    """One of PORTS that differs between neighbouring jobs and is the same on every host of one."""
    return PORTS[(int(job_id) * 7 + int(step_id)) % len(PORTS)]


def read_rank_environment(environ: Mapping[str, str] | None = None) -> RankEnvironment:
    """Reads who this process is.

    Args:
        environ: the variables to read; default: those of the process.

    Raises:
        SettingError: half of a launcher's variables are there, or one is no number.
    """
    env = os.environ if environ is None else environ
    if "RANK" in env and "WORLD_SIZE" in env:
        launcher = "torchrun" if "TORCHELASTIC_RUN_ID" in env else env.get("ZHGPT_LAUNCHER", "deepspeed")
        asked = env.get("ZHGPT_HOSTS") or env.get("GROUP_WORLD_SIZE")
        return RankEnvironment(
            launcher,
            _integer(env, "RANK"),
            _integer(env, "LOCAL_RANK"),
            _integer(env, "WORLD_SIZE"),
            int(env.get("LOCAL_WORLD_SIZE") or env.get("LOCAL_SIZE") or env["WORLD_SIZE"]),
            env.get("MASTER_ADDR", "127.0.0.1"),
            _integer(env, "MASTER_PORT"),
            int(asked) if asked else None,
        )
    if "OMPI_COMM_WORLD_RANK" in env:
        if "MASTER_ADDR" not in env or "MASTER_PORT" not in env:
            raise SettingError(
                "mpirun does not say where the ranks meet: add -x MASTER_ADDR=FIRST_HOST -x MASTER_PORT=29501 (any free port)"
            )
        return RankEnvironment(
            "mpirun",
            _integer(env, "OMPI_COMM_WORLD_RANK"),
            _integer(env, "OMPI_COMM_WORLD_LOCAL_RANK"),
            _integer(env, "OMPI_COMM_WORLD_SIZE"),
            _integer(env, "OMPI_COMM_WORLD_LOCAL_SIZE"),
            env.get("MASTER_ADDR", "127.0.0.1"),
            _integer(env, "MASTER_PORT"),
            None,
        )
    if "SLURM_PROCID" in env and int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in env:
        place = read_slurm_host_place(env)
        tasks, hosts = _integer(env, "SLURM_NTASKS"), place.hosts if place else 1
        return RankEnvironment(
            "srun",
            _integer(env, "SLURM_PROCID"),
            _integer(env, "SLURM_LOCALID"),
            tasks,
            tasks // hosts,
            env.get("MASTER_ADDR") or (place.master_address if place else "127.0.0.1"),
            int(env.get("MASTER_PORT") or (place.master_port if place else 0)),
            hosts,
        )
    return RankEnvironment("python", 0, 0, 1, 1, "127.0.0.1", free_port(), None)


def read_slurm_host_place(environ: Mapping[str, str] | None = None) -> HostPlace | None:
    """This host's place in a Slurm step with one launcher a host, or None outside such a step."""
    env = os.environ if environ is None else environ
    nodelist = env.get("SLURM_STEP_NODELIST")
    if nodelist is None or "SLURM_STEP_ID" not in env:
        return None
    return HostPlace(
        hosts=int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES", "1")),
        host_rank=_integer(env, "SLURM_NODEID"),
        master_address=first_slurm_host(nodelist),
        master_port=slurm_port(env.get("SLURM_JOB_ID", "0"), env["SLURM_STEP_ID"]),
    )


def read_slurm_job(environ: Mapping[str, str] | None = None) -> SlurmJob | None:
    """The job this process belongs to, or None outside Slurm."""
    env = os.environ if environ is None else environ
    if "SLURM_JOB_ID" not in env:
        return None
    return SlurmJob(env["SLURM_JOB_ID"], int(env.get("SLURM_RESTART_COUNT") or 0))


def free_port() -> int:
    """One of PORTS that nobody listens on now, chosen at random so that two starts at once seldom choose alike.

    Raises:
        SettingError: every one that was tried is in use.
    """
    tried = random.SystemRandom().sample(PORTS, min(100, len(PORTS)))  # its own source: ranks seed the common one alike
    for port in tried:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise SettingError(
        f"no free port for the ranks to meet at: {len(tried)} of {PORTS.start} to {PORTS.stop - 1} were tried and each is"
        " in use; name a free one: zhgpt pretrain --master-port, deepspeed --master_port, or MASTER_PORT"
    )


def child_environment(
    *,
    rank: int,
    local_rank: int,
    world_size: int,
    local_world_size: int,
    hosts: int,
    address: str,
    port: int,
    threads: int,
) -> dict[str, str]:
    """The environment our launcher gives one rank: torch's variables and one OpenMP thread count for each."""
    return {
        **os.environ,
        "ZHGPT_LAUNCHER": "zhgpt",
        "ZHGPT_HOSTS": str(hosts),
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(local_world_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }


def export_rank_environment(rank_environment: RankEnvironment, accelerator: str) -> None:
    """Writes back what torch.distributed (``env://``) and DeepSpeed's accelerator choice read; before importing DeepSpeed."""
    os.environ.update(
        RANK=str(rank_environment.rank),
        LOCAL_RANK=str(rank_environment.local_rank),
        WORLD_SIZE=str(rank_environment.world_size),
        MASTER_ADDR=rank_environment.master_address,
        MASTER_PORT=str(rank_environment.master_port),
        DS_ACCELERATOR=accelerator,
        TOKENIZERS_PARALLELISM=os.environ.get("TOKENIZERS_PARALLELISM", "false"),
        DS_SKIP_CUDA_CHECK=os.environ.get("DS_SKIP_CUDA_CHECK", "1"),
    )


def export_device_number(number: int) -> None:
    """Writes the number of this rank's GPU, among those that it sees, where DeepSpeed reads it: ``LOCAL_RANK``.

    It binds NCCL to the GPU of that number (deepspeed/comm/torch.py, ``init_process_group``) and takes it for its own
    (runtime/engine.py, ``_set_distributed_vars``), where it also refuses to differ from what OpenMPI says.
    """
    os.environ["LOCAL_RANK"] = str(number)
    if "OMPI_COMM_WORLD_LOCAL_RANK" in os.environ:
        os.environ["OMPI_COMM_WORLD_LOCAL_RANK"] = str(number)


def threads_for_rank(local_world_size: int) -> int:
    """CPU threads a rank should use: OMP_NUM_THREADS where it is set, else the usable cores shared out."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, len(os.sched_getaffinity(0)) // max(1, local_world_size))


def visible_gpus_setting() -> str | None:
    """CUDA_VISIBLE_DEVICES as the scheduler or the user set it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def build_ops_requested() -> bool:
    """ZHGPT_BUILD_OPS=1: compile DeepSpeed's shared-memory op instead of doing without it."""
    return os.environ.get("ZHGPT_BUILD_OPS", "0") == "1"


def use_private_extensions_folder(key: str) -> Path:
    """Points torch's extension builds to a folder of this environment alone, and returns it.

    Two Python environments that share the default folder invalidate each other's builds, and a killed build leaves a
    lock there that every later run waits for without a word.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "zhgpt" / "torch_extensions" / key
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    return folder


def keep_inductor_results() -> Path:
    """Where ``torch.compile`` keeps what it made: TORCHINDUCTOR_CACHE_DIR where it is set, else a folder that outlives a
    restart of the machine (torch's own default is in the folder of temporary files). Inductor's keys hold the versions and
    the processor, so one folder serves all environments."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or cache / "zhgpt" / "inductor")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    return folder
