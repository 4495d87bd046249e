"""Each variant against the baseline, paired by seed: differences with intervals, and what they mean in a sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from zhgpt.ablate.documents import half_width_over_documents
from zhgpt.ablate.observed import Basis, Observed, bits_at
from zhgpt.ablate.plan import Plan
from zhgpt.ablate.reaching import Reach, reach
from zhgpt.ablate.student import Interval, mean_interval

Outcome = Literal["better", "worse", "same", "not decided"]

FEWEST_SEEDS = 3
"""Fewer pairs than this never decide anything."""

BASES: dict[Basis, str] = {
    "tokens": "equal tokens",
    "seconds": "equal wall-clock",
    "cpu_seconds": "equal CPU-seconds",
    "flops": "equal FLOPs",
}

COUNTED: dict[Basis, str] = {
    "tokens": "tokens",
    "seconds": "training time",
    "cpu_seconds": "CPU-seconds",
    "flops": "FLOPs",
}

THROUGHPUT: dict[Literal["seconds", "cpu_seconds"], tuple[str, str]] = {
    "seconds": ("tokens_per_second", "tokens a second"),
    "cpu_seconds": ("tokens_per_cpu_second", "tokens a CPU-second"),
}
"""By the time that counts: the number of a run, and its name."""

VERDICTS: dict[Outcome, str] = {
    "better": "on this machine it pays",
    "worse": "on this machine it does not pay",
    "same": "on this machine it makes no difference to the loss",
    "not decided": "on this machine it is not decided whether it pays",
}
_EARLY = 0.98


@dataclass(frozen=True)
class Difference:
    """Bits per byte of a variant minus those of the baseline, over the pairs; less is better.

    Attributes:
        interval: mean and interval over the pairs, and over the held-out documents where their costs are known.
        outcome: what the interval says.
        read_early: of the two, those that were read before their end, where their learning rate had not come down.
    """

    interval: Interval
    outcome: Outcome
    read_early: tuple[str, ...] = ()
    over_documents: float | None = None
    """Half width over the held-out documents alone, at the end of the runs; None: not known, and not in the interval."""


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline.

    Attributes:
        variant: its name.
        seeds: those that both finished.
        differences: by what is held equal; a basis without a common place is missing.
        speed: tokens a second, or a CPU-second where the plan's time is that, as a ratio to the baseline's, with its interval (of
            logarithms); None without pairs.
        memory: peak memory of a rank as a ratio, mean over the pairs.
        failures: of its other runs, a phrase each.
        sentence: all of it in words.
        reaches: what it needs to be as good as the baseline at its end, by what is counted; missing where it never is.
    """

    variant: str
    seeds: tuple[int, ...]
    differences: dict[Basis, Difference]
    speed: tuple[float, float, float] | None
    memory: float | None
    failures: tuple[str, ...]
    sentence: str
    reaches: dict[Basis, Reach] = field(default_factory=dict)


def compare(plan: Plan, runs: Sequence[Observed]) -> list[Comparison]:
    """Every variant but the baseline, in the plan's order."""
    baseline = {run.cell.seed: run for run in runs if run.cell.variant.name == plan.baseline}
    return [
        _compare_one(plan, variant.name, [run for run in runs if run.cell.variant.name == variant.name], baseline)
        for variant in plan.variants
        if variant.name != plan.baseline
    ]


def judge(interval: Interval, indifference: float) -> Outcome:
    """What an interval of differences says: less is better.

    With fewer than `FEWEST_SEEDS` pairs nothing is decided, whatever the numbers are.
    """
    if interval.count < FEWEST_SEEDS:
        return "not decided"
    if -indifference <= interval.low and interval.high <= indifference:
        return "same"
    if interval.high < 0:
        return "better"
    return "worse" if interval.low > 0 else "not decided"


def paired_difference(
    pairs: Sequence[tuple[Observed, Observed]], basis: Basis, confidence: float, indifference: float
) -> Difference | None:
    """The difference at equal tokens, seconds or FLOPs: each pair is read where the shorter of the two ends.

    Args:
        pairs: (variant, baseline) of the same seed, both done.
        basis: what is equal.
        confidence: of the interval.
        indifference: what counts as the same.

    Returns:
        None where a pair has no place in common.
    """
    differences, early = [], set()
    for run, other in pairs:
        ends = {"variant": getattr(run.points[-1], basis), "baseline": getattr(other.points[-1], basis)}
        if None in ends.values():
            return None
        place = min(ends.values())
        bits, other_bits = bits_at(run.points, basis, place), bits_at(other.points, basis, place)
        if bits is None or other_bits is None:
            return None
        differences.append(bits - other_bits)
        early |= {name for name, end in ends.items() if place < _EARLY * end}
    if not differences:
        return None
    over_seeds = mean_interval(differences, confidence)
    over_documents = half_width_over_documents([(run.documents, other.documents) for run, other in pairs], confidence)
    interval = over_seeds
    if over_seeds.half_width is not None and over_documents is not None:  # independent, so their squares add up
        interval = Interval(over_seeds.count, over_seeds.mean, math.hypot(over_seeds.half_width, over_documents))
    return Difference(interval, judge(interval, indifference), tuple(sorted(early)), over_documents)


def _compare_one(plan: Plan, name: str, runs: Sequence[Observed], baseline: dict[int, Observed]) -> Comparison:
    pairs = [
        (run, baseline[run.cell.seed])
        for run in runs
        if run.done and run.cell.seed in baseline and baseline[run.cell.seed].done
    ]
    found = {basis: paired_difference(pairs, basis, plan.confidence, plan.indifference) for basis in BASES}
    differences = {basis: difference for basis, difference in found.items() if difference is not None}
    failures = tuple(f"seed {run.cell.seed} {_ended(run)}" for run in runs if not run.done)
    baseline_done = any(run.done for run in baseline.values())
    speed, memory = _speed(pairs, plan), _memory(pairs)
    sentence = sentence_of(name, plan, differences, len(pairs), failures, baseline_done)
    reached = {basis: reach(pairs, basis, plan.confidence) for basis in BASES}
    reaches = {basis: found for basis, found in reached.items() if found is not None}
    sentence += _cost_sentence(speed, memory, plan) + _reach_sentence(reaches, plan, len(pairs))
    seeds = tuple(run.cell.seed for run, _ in pairs)
    return Comparison(name, seeds, differences, speed, memory, failures, sentence, reaches)


def sentence_of(
    name: str,
    plan: Plan,
    differences: dict[Basis, Difference],
    pairs: int,
    failures: Sequence[str],
    baseline_done: bool,
) -> str:
    """What a comparison says, for somebody who reads nothing else."""
    left_out = f" Left out: {', '.join(failures)}." if failures and pairs else ""
    tokens, seconds = differences.get("tokens"), differences.get(plan.time)
    if not pairs:
        why = f": {', '.join(failures)}" if failures else "" if baseline_done else ": the baseline has no finished run"
        return f"{name} cannot be compared with {plan.baseline}{why}."
    if pairs < FEWEST_SEEDS:
        shown = f" (mean difference at equal tokens {tokens.interval.mean:+.4f} bits per byte)" if tokens else ""
        seeds = "1 seed" if pairs == 1 else f"{pairs} seeds"
        return f"{name} against {plan.baseline}: not decided, {seeds} where at least {FEWEST_SEEDS} are needed{shown}.{left_out}"
    shown_bases: tuple[Basis, ...] = ("tokens", plan.time)
    parts = [(basis, differences[basis]) for basis in shown_bases if basis in differences]
    if not parts:
        return f"{name} cannot be compared with {plan.baseline}: no evaluation at a common place.{left_out}"
    words = [
        _phrase(difference, BASES[basis], plan.indifference, unit=not at)
        for at, (basis, difference) in enumerate(parts)
    ]
    if seconds is None:
        words.append(f"not compared at {BASES[plan.time]}, where the slower one had not been evaluated yet")
    verdict = f": {VERDICTS[seconds.outcome]}" if seconds is not None else ""
    return f"{name} is {', '.join(words)}{verdict}.{left_out}"


def _phrase(difference: Difference, at: str, indifference: float, *, unit: bool) -> str:
    interval = difference.interval
    assert interval.half_width is not None, "an interval over fewer than two pairs was judged"
    bits = " bits per byte" if unit else ""
    digits = 3 if interval.half_width >= 0.001 else 4
    if difference.outcome in ("better", "worse"):
        size = f"{abs(interval.mean):.{digits}f} ± {interval.half_width:.{digits}f}{bits}"
        return f"{size} {difference.outcome} at {at}"
    size = f"{signed(interval.mean, digits)} ± {interval.half_width:.{digits}f}{bits}"
    if difference.outcome == "same":
        return f"the same within {indifference:g} at {at} ({size})"
    return f"not decided at {at} ({size})"


def signed(value: float, digits: int) -> str:
    """A difference with its sign, and without one where it is zero in these digits."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def _ended(run: Observed) -> str:
    return run.standing.state if run.standing.state != "done" else "has no held-out loss"


def _cost_sentence(speed: tuple[float, float, float] | None, memory: float | None, plan: Plan) -> str:
    parts = []
    if speed is not None:
        ratio, low, high = speed
        known = math.isfinite(high)
        parts.append(f"{ratio:.2f} × the {THROUGHPUT[plan.time][1]}" + (f" ({low:.2f} to {high:.2f})" if known else ""))
    if memory is not None:
        parts.append(f"{memory:.2f} × the peak memory of a rank")
    return f" It has {' and '.join(parts)}." if parts else ""


def _reach_sentence(reaches: dict[Basis, Reach], plan: Plan, pairs: int) -> str:
    shown: tuple[Basis, ...] = ("tokens", plan.time)
    parts = [reaches[basis].text(f" × its {COUNTED[basis]}") for basis in shown if basis in reaches]
    if pairs < FEWEST_SEEDS or not any(reaches[basis].ratio < _EARLY for basis in shown if basis in reaches):
        return ""
    return f" It is as good as {plan.baseline} at its end after {' and '.join(parts)}."


def _speed(pairs: Sequence[tuple[Observed, Observed]], plan: Plan) -> tuple[float, float, float] | None:
    """Ratio of tokens a second with its interval: the mean of logarithms, so that 2 × and 0.5 × weigh the same."""
    rate, _ = THROUGHPUT[plan.time]
    rates = [(run.numbers.get(rate), other.numbers.get(rate)) for run, other in pairs]
    logarithms = [math.log(one / other) for one, other in rates if one and other]
    if not logarithms:
        return None
    interval = mean_interval(logarithms, plan.confidence)
    low, high = (math.exp(interval.low), math.exp(min(interval.high, 700))) if len(logarithms) > 1 else (0.0, math.inf)
    return math.exp(interval.mean), low, high


def _memory(pairs: Sequence[tuple[Observed, Observed]]) -> float | None:
    peaks = [(run.numbers.get("peak_memory_bytes"), other.numbers.get("peak_memory_bytes")) for run, other in pairs]
    ratios = [one / other for one, other in peaks if one and other]
    return sum(ratios) / len(ratios) if ratios else None
