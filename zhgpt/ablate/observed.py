"""What the runs of an ablation measured: held-out curves over tokens, time and FLOPs, and what they cost."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from zhgpt.ablate.execute import Standing, standing
from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.plan import Cell, Plan
from zhgpt.report.recorded_run import RecordedRun, look_up, number_at, read_run
from zhgpt.train.document_costs import RecordedCosts, read_document_costs

Basis = Literal["tokens", "seconds", "cpu_seconds", "flops"]

SHARES = ("data_wait", "communication", "forward_time", "backward_time", "update_time")
"""Metrics that are shares of the training time; all but the first only where the DeepSpeed JSON asks for them."""


@dataclass(frozen=True)
class Point:
    """One evaluation: how far the run was, and what the held-out text cost then.

    Attributes:
        step: of the run.
        tokens: trained on so far.
        seconds: of training so far, over all starts; evaluating, saving and starting are not counted.
        cpu_seconds: the same of all ranks' CPUs; None where the training ran on GPUs, or did not record it.
        flops: forward and backward so far.
        loss: held-out nats per token.
        bits: held-out bits per byte.
        bits_by_dataset: the same of each dataset, where the run evaluated named ones.
    """

    step: int
    tokens: float
    seconds: float
    cpu_seconds: float | None
    flops: float
    loss: float
    bits: float
    bits_by_dataset: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """One run as far as it went.

    Attributes:
        cell: which.
        standing: how it ended, or that it did not.
        points: its evaluations in order.
        numbers: medians over the run's metrics by name (speed, shares), peaks (memory), and totals; what was not
            measured is missing.
        hosts: where it ran.
        documents: what each held-out document cost at the end; None where that was not recorded.
    """

    cell: Cell
    standing: Standing
    points: tuple[Point, ...]
    numbers: Mapping[str, float]
    hosts: tuple[str, ...]
    documents: RecordedCosts | None = None

    @property
    def done(self) -> bool:
        """Whether it reached its last step with a held-out loss."""
        return self.standing.state == "done" and bool(self.points)

    @property
    def bits(self) -> float | None:
        """Held-out bits per byte at the end."""
        return self.points[-1].bits if self.done else None


def observe(folder: AblationFolder, plan: Plan) -> list[Observed]:
    """All runs of a plan, in its order; those that have not begun have no points."""
    return [_observe_cell(folder, cell) for cell in plan.cells]


def bits_at(points: Sequence[Point], basis: Basis, place: float) -> float | None:
    """Held-out bits per byte at so many tokens, seconds or FLOPs, between evaluations on a straight line.

    None before the first evaluation and after the last, and where the basis was not measured.
    """
    if any(getattr(point, basis) is None for point in points):
        return None
    for before, after in itertools.pairwise(points):
        start, end = getattr(before, basis), getattr(after, basis)
        if start <= place <= end:
            share = 0.0 if end == start else (place - start) / (end - start)
            return before.bits + share * (after.bits - before.bits)
    return points[0].bits if len(points) == 1 and getattr(points[0], basis) == place else None


def training_seconds(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Seconds of training up to each record, over all starts of the run.

    Each record says how many tokens a second went by since the one before; the clock stands still while the run
    evaluates, saves, or is down.
    """
    seconds, tokens, times = 0.0, 0.0, []
    for record in records:
        rate, consumed = number_at(record, "tokens_per_second"), number_at(record, "consumed_tokens")
        if rate and consumed is not None and math.isfinite(rate):
            seconds += max(0.0, consumed - tokens) / rate
            tokens = consumed
        times.append(seconds)
    return times


def training_cpu_seconds(run: RecordedRun) -> list[float | None]:
    """CPU seconds of all ranks' training up to each record, over all starts; None for a run on GPUs, or without them."""
    laps = [number_at(record, "cpu_seconds") for record in run.records]
    if look_up(run.environment, "accelerator") != "cpu" or None in laps:
        return [None] * len(laps)
    return list(itertools.accumulate(lap for lap in laps if lap is not None))


def _observe_cell(folder: AblationFolder, cell: Cell) -> Observed:
    stands, run_folder = standing(folder, cell), folder.run(cell.name)
    if not run_folder.metrics.exists():
        return Observed(cell, stands, (), {}, ())
    run = read_run(run_folder.path)
    times = training_seconds(run.records)
    hosts = look_up(run.environment, "host_names")
    return Observed(
        cell,
        stands,
        _points(run, times, cell),
        _numbers(run, times),
        tuple(map(str, hosts)) if hosts else (),
        read_document_costs(run_folder.held_out_documents),
    )


def _points(run: RecordedRun, times: Sequence[float], cell: Cell) -> tuple[Point, ...]:
    found = []
    cpu_times = training_cpu_seconds(run)
    for record, seconds, cpu_seconds in zip(run.records, times, cpu_times, strict=True):
        loss, bits = number_at(record, "valid_loss"), number_at(record, "valid_bits_per_byte")
        tokens = number_at(record, "consumed_tokens")
        if loss is None or bits is None or tokens is None or not math.isfinite(bits):
            continue
        flops = tokens * cell.variant.flops_per_token
        found.append(Point(record["step"], tokens, seconds, cpu_seconds, flops, loss, bits, _bits_by_dataset(record)))
    return tuple(found)


def _bits_by_dataset(record: Mapping[str, Any]) -> dict[str, float]:
    """By the datasets' names, in the order recorded; one whose number is not finite is left out."""
    begin = "valid_bits_per_byte/"
    found = {key.removeprefix(begin): value for key, value in record.items() if key.startswith(begin)}
    return {name: float(bits) for name, bits in found.items() if bits is not None and math.isfinite(bits)}


def _numbers(run: RecordedRun, times: Sequence[float]) -> dict[str, float]:
    def values(name: str) -> list[float]:
        found = [number_at(record, name) for record in run.records]
        return [value for value in found if value is not None and math.isfinite(value)]

    numbers = {name: median(found) for name in ("tokens_per_second", "mfu", *SHARES) if (found := values(name))}
    if peaks := values("peak_memory_bytes"):
        numbers["peak_memory_bytes"] = max(peaks)
    if times:
        numbers["training_seconds"] = times[-1]
        if (cpu_seconds := training_cpu_seconds(run)[-1]) is not None:
            numbers["training_cpu_seconds"] = cpu_seconds
            tokens = number_at(run.records[-1], "consumed_tokens")
            if tokens and cpu_seconds:
                numbers["tokens_per_cpu_second"] = tokens / cpu_seconds
    tokens_per_step = number_at(run.environment, "batch_plan.tokens_per_step")
    if tokens_per_step and "tokens_per_second" in numbers:
        numbers["step_seconds"] = tokens_per_step / numbers["tokens_per_second"]
    return numbers
