"""Quirks of the `deepspeed` and `torchrun` launchers, shown by real starts of a rank that only sleeps.

A probe returns True when the quirk is still there.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0

RANK = """
import os, signal, sys, time
pids, seconds, code = sys.argv[-3:]
if code != "0":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(code)))
open(pids, "w").write(f"{os.getpid()} {os.getppid()}")
time.sleep(float(seconds))
sys.exit(int(code))
"""


def _started_rank(folder: Path) -> tuple[int, int]:
    """Process ids of the rank and of what started it, once it runs."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        words = (folder / "pids").read_text().split() if (folder / "pids").exists() else []
        if len(words) == 2:
            return int(words[0]), int(words[1])
        time.sleep(0.05)
    raise TimeoutError(f"no rank started in {START_SECONDS:.0f} s")


def _deepspeed_options() -> list[str]:
    port = 20000 + os.getpid() % 10000
    return ["--num_gpus", "1", "--master_port", str(port)]


@contextmanager
def _launched(
    folder: Path, options: list[str], *, seconds: float = 60, code: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """`deepspeed` over a rank that sleeps and ends with ``code``; whatever is left at the end is killed."""
    folder.mkdir()
    (folder / "rank.py").write_text(RANK)
    command = [sys.executable, "-m", "deepspeed.launcher.runner", *options, str(folder / "rank.py")]
    arguments = [str(folder / "pids"), str(seconds), str(code)]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        left = [int(word) for word in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []
        for pid in [*left, process.pid]:
            _kill(pid)
        process.wait(timeout=10)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def a_missing_host_file_means_one_host(folder: Path) -> bool:
    options = ["--hostfile", str(folder / "absent"), *_deepspeed_options()]
    with _launched(folder, options, seconds=0) as process:
        return process.wait(timeout=START_SECONDS) == 0


def sigterm_leaves_the_ranks_as_orphans(folder: Path) -> bool:
    with _launched(folder, _deepspeed_options()) as process:
        rank, _ = _started_rank(folder)
        process.terminate()
        process.wait(timeout=30)
        time.sleep(2)
        return _lives(rank)


def a_killed_node_launcher_counts_as_success(folder: Path) -> bool:
    with _launched(folder, _deepspeed_options()) as process:
        _, launcher = _started_rank(folder)
        os.kill(launcher, signal.SIGKILL)
        return process.wait(timeout=30) == 0


def a_stop_signal_loses_the_exit_code(folder: Path) -> bool:
    """The rank answers SIGTERM with 75, as one does that has saved."""
    with _launched(folder, _deepspeed_options(), code=75) as process:
        _started_rank(folder)
        process.terminate()
        return process.wait(timeout=30) != 75


def torchrun_returns_one_whatever_happened(folder: Path) -> bool:
    folder.mkdir()
    (folder / "rank.py").write_text(RANK)
    options = ["--standalone", "--nproc_per_node", "1", str(folder / "rank.py"), str(folder / "pids"), "0", "75"]
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    return subprocess.run(command, capture_output=True, timeout=START_SECONDS, check=False).returncode == 1


def path_does_not_travel_over_ssh(_folder: Path) -> bool:
    """By source: the list of the variables that reach the other hosts."""
    code = "from deepspeed.launcher.runner import EXPORT_ENVS; print(*EXPORT_ENVS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return not any("PATH".startswith(prefix) for prefix in done.stdout.splitlines()[-1].split())


PROBES: tuple[Callable[[Path], bool], ...] = (
    a_missing_host_file_means_one_host,
    sigterm_leaves_the_ranks_as_orphans,
    a_killed_node_launcher_counts_as_success,
    a_stop_signal_loses_the_exit_code,
    torchrun_returns_one_whatever_happened,
    path_does_not_travel_over_ssh,
)
