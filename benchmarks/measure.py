"""Timing two variants against each other: interleaved, one thread, median of the repeats."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One run of one variant."""

    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Comparison:
    """One row of the table: ours against a named baseline, both measured in this run.

    Attributes:
        what: Name of the row.
        baseline: What it is measured against; "–" where it is a bound, and then there are no rates of it.
        unit: What the rates count.
        repeats: Runs of each.
        at_least: What was asked for before it was measured: the ratio, and what else.
        notes: What else was measured.
    """

    what: str
    baseline: str
    unit: str
    ours_per_cpu_second: float
    baseline_per_cpu_second: float | None
    ours_per_wall_second: float
    baseline_per_wall_second: float | None
    repeats: int
    at_least: str = ""
    notes: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the baseline, per CPU-second."""
        if self.baseline_per_cpu_second is None:
            return None
        return self.ours_per_cpu_second / self.baseline_per_cpu_second


def timed(work: Callable[[], object]) -> Timing:
    """Runs once; CPU time of this process and of the children it has waited for."""
    before, started = _cpu_seconds(), time.perf_counter()
    work()
    return Timing(_cpu_seconds() - before, time.perf_counter() - started)


def _cpu_seconds() -> float:
    times = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times + children.ru_utime + children.ru_stime


def compare(
    what: str,
    ours: Callable[[], object],
    baseline_name: str,
    baseline: Callable[[], object],
    *,
    amount: float,
    unit: str,
    repeats: int = 5,
    warm_up: bool = True,
) -> Comparison:
    """Measures both variants in turn.

    Args:
        what: name of the row.
        ours: one run of our variant, handling ``amount`` units.
        baseline_name: what it is measured against.
        baseline: one run of that, handling the same amount.
        amount: units a run handles.
        unit: their name.
        repeats: runs of each.
        warm_up: run each once first; False where text must be seen for the first time.
    """
    if warm_up:
        ours()
        baseline()
    pairs = [(timed(ours), timed(baseline)) for _ in range(repeats)]

    def rate(seconds: list[float]) -> float:
        return amount / statistics.median(seconds)

    return Comparison(
        what,
        baseline_name,
        unit,
        rate([one.cpu_seconds for one, _ in pairs]),
        rate([other.cpu_seconds for _, other in pairs]),
        rate([one.wall_seconds for one, _ in pairs]),
        rate([other.wall_seconds for _, other in pairs]),
        repeats,
    )
