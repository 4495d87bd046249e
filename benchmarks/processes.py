"""Running a command to its end: CPU-seconds of all its processes, and the most memory that they had together."""

import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS_BETWEEN_SAMPLES = 0.05


@dataclass(frozen=True)
class Measured:
    """One command.

    Attributes:
        cpu_seconds: Of all its processes.
        wall_seconds: From start to end.
        peak_bytes: Most memory of all its processes together (PSS: shared pages count once). Not the ``ru_maxrss`` of the
            system, which begins with the memory of the process that started the command.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Runs a command to its end, looking at the memory of its processes now and then.

    Raises:
        RuntimeError: It failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # An installed package has its bytecode; a checkout has it from the second start on, unless it is told not to keep it.
    kept = {name: value for name, value in (environment or os.environ).items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=kept)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(pss_bytes, family(process.pid))))
        time.sleep(_SECONDS_BETWEEN_SAMPLES)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(cpu, time.perf_counter() - started, peak)


def family(process: int) -> Iterator[int]:
    """A process and all below it."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from family(int(child))


def pss_bytes(process: int) -> int:
    """Memory of a process, its part of shared pages included; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
