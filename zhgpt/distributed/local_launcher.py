"""Starting the ranks of one host, forwarding signals to them, and returning one honest exit code.

DeepSpeed's launcher orphans its ranks on SIGTERM and returns 0 when it is killed itself; torchrun returns 1 whatever
happened. A batch system needs 75 to mean "saved, requeue me", so ``zhgpt pretrain`` starts its ranks here.
"""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from zhgpt.distributed.environment import child_environment, threads_for_rank, visible_gpus_setting
from zhgpt.errors import OutOfMemoryError, SettingError

FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
SECONDS_FROM_FIRST_DEATH_TO_KILL = 20.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class LaunchPlan:
    """How many ranks start here and where they meet."""

    processes: int
    hosts: int
    host_rank: int
    master_address: str
    master_port: int

    @property
    def world_size(self) -> int:
        """Ranks on all hosts together."""
        return self.processes * self.hosts


def count_gpus() -> int:
    """GPUs that processes started here may use, without importing torch."""
    visible = visible_gpus_setting()
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() and part.strip() != "-1"])
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines()) if listing.returncode == 0 else 0


def check_launch_plan(plan: LaunchPlan) -> None:
    """Refuses impossible numbers before anything starts."""
    if plan.processes < 1:
        raise SettingError(f"--num-processes is {plan.processes}; at least 1 process a host is needed")
    if not 0 <= plan.host_rank < plan.hosts:
        raise SettingError(f"--host-rank is {plan.host_rank}, expected 0 to {plan.hosts - 1} for --hosts {plan.hosts}")


def _die_with_parent() -> None:
    """In the child: ask for SIGTERM should the launcher vanish, so that no rank is left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True)
class LaunchOutcome:
    """How the ranks of this host ended."""

    code: int
    """0; or the code of the rank that failed first: its exit code, 128 + n for a signal n, 76 where the kernel killed
    it for lack of memory."""
    killed: str | None = None
    """A sentence where a signal ended the rank, which could then say nothing itself."""


def run_ranks(command: Sequence[str], plan: LaunchPlan) -> LaunchOutcome:
    """Runs ``command`` once a rank and waits for all of them.

    SIGTERM, SIGUSR1 and SIGINT go on to every rank. When one rank fails, the others get 20 seconds and are then killed.

    Args:
        command: program and arguments, the same for each rank.
        plan: from the command line or the scheduler.

    Returns:
        The outcome of the first rank that failed; ranks that are killed here because of it do not count.
    """
    check_launch_plan(plan)
    memory_kills = count_memory_kills()
    threads = threads_for_rank(plan.processes)
    ranks: list[subprocess.Popen[bytes]] = []

    received: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        send = signal.SIGTERM if number == signal.SIGINT else number
        if number == signal.SIGINT and number in received:
            send = signal.SIGKILL  # the second Ctrl-C: somebody does not want to wait for the save
        received.append(number)
        for process in ranks:
            if process.poll() is None:
                process.send_signal(send)

    previous = {number: signal.signal(number, forward) for number in FORWARDED_SIGNALS}
    try:
        for local_rank in range(plan.processes):
            environment = child_environment(
                rank=plan.host_rank * plan.processes + local_rank,
                local_rank=local_rank,
                world_size=plan.world_size,
                local_world_size=plan.processes,
                hosts=plan.hosts,
                address=plan.master_address,
                port=plan.master_port,
                threads=threads,
            )
            # A session of its own: Ctrl-C reaches the launcher alone, which passes it on once.
            ranks.append(
                subprocess.Popen(list(command), env=environment, start_new_session=True, preexec_fn=_die_with_parent)
            )
        if received:  # a signal that came between two starts
            ranks[-1].send_signal(signal.SIGTERM)
        return _wait(ranks, memory_kills)
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
                process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(ranks: Sequence["subprocess.Popen[bytes]"], memory_kills: int) -> LaunchOutcome:
    """Waits for all ranks; after the first failure the rest have a limited time."""
    failures: dict[int, int] = {}
    kill_at = float("inf")
    while True:
        codes = [process.poll() for process in ranks]
        if time.monotonic() < kill_at:  # what ends later was ended here, and says nothing
            failures.update({local_rank: code for local_rank, code in enumerate(codes) if code})
        if failures and kill_at == float("inf"):
            kill_at = time.monotonic() + SECONDS_FROM_FIRST_DEATH_TO_KILL
        if all(code is not None for code in codes):
            return _explain(failures, memory_kills)
        if time.monotonic() > kill_at:
            for process in ranks:
                if process.poll() is None:
                    process.kill()
        time.sleep(0.05)


def _explain(failures: dict[int, int], memory_kills: int) -> LaunchOutcome:
    """The failure that explains the others: a rank whose peer is gone only knows that it lost its connection.

    First a rank that was killed, then one that says what happened with a documented code, then other signals, then 1.
    """

    def weight(local_rank: int) -> tuple[int, int]:
        code = failures[local_rank]
        kind = 0 if code == -signal.SIGKILL else 1 if code > 1 else 2 if code < 0 else 3
        return kind, local_rank

    if not failures:
        return LaunchOutcome(0)
    local_rank = min(failures, key=weight)
    outcome = _describe_failure(local_rank, failures[local_rank], memory_kills)
    if outcome.killed is not None:
        print(outcome.killed, file=sys.stderr)
    return outcome


def _describe_failure(local_rank: int, code: int, memory_kills: int) -> LaunchOutcome:
    if code > 0:
        return LaunchOutcome(code)
    if -code == signal.SIGKILL and count_memory_kills() > memory_kills:
        return LaunchOutcome(
            OutOfMemoryError.exit_code,
            f"local rank {local_rank} was killed by the kernel, which ran out of memory on this host; lower "
            "train.micro_batch_size, start fewer ranks here, or ask for more memory",
        )
    return LaunchOutcome(128 - code, f"local rank {local_rank} was ended by {signal.Signals(-code).name}")


def count_memory_kills() -> int:
    """Processes that this host's kernel has killed for lack of memory since it started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
