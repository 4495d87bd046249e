"""The ablation's numbers as rows: for the CSV files, the Markdown and the page."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from zhgpt.ablate.comparison import BASES, COUNTED, THROUGHPUT, Comparison, Difference, signed
from zhgpt.ablate.observed import Basis, Observed
from zhgpt.ablate.plan import Plan
from zhgpt.ablate.reaching import Reach
from zhgpt.ablate.student import Interval, mean_interval
from zhgpt.config.quantities import count_text, duration_text, share_text

NOT_MEASURED = "–"


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the first column is a name, the others are digits."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def result_table(plan: Plan, runs: Sequence[Observed], comparisons: Sequence[Comparison]) -> Table:
    """A row a variant: seeds done, final held-out bits per byte, and the differences to the baseline."""
    by_name = {comparison.variant: comparison for comparison in comparisons}
    bases = compared_bases(comparisons)
    rows = []
    for variant in plan.variants:
        mine = [run for run in runs if run.cell.variant.name == variant.name]
        bits = [run.bits for run in mine if run.bits is not None]
        comparison = by_name.get(variant.name)
        differences = [
            "baseline" if comparison is None else _difference_text(comparison.differences.get(basis)) for basis in bases
        ]
        rows.append((variant.name, f"{len(bits)} of {len(mine)}", _mean_text(bits, plan), *differences))
    heads = ("variant", "seeds", "bits per byte", *(f"Δ at {BASES[basis]}" for basis in bases))
    return Table(heads, tuple(rows))


def compared_bases(comparisons: Sequence[Comparison]) -> list[Basis]:
    """What something is compared at; CPU-seconds are left out where no run has measured them."""
    return [
        basis
        for basis in BASES
        if basis != "cpu_seconds" or any(basis in comparison.differences for comparison in comparisons)
    ]


def dataset_table(plan: Plan, runs: Sequence[Observed]) -> Table | None:
    """A row a variant: final held-out bits per byte of each dataset, and the paired difference to the baseline.

    None where no run was evaluated on more than one.
    """
    done = [run for run in runs if run.done]
    if not any(len(run.points[-1].bits_by_dataset) > 1 for run in done):
        return None
    names = dataset_names(done)
    baseline = {name: _final_bits(done, plan.baseline, name) for name in names}
    rows = []
    for variant in plan.variants:
        cells = []
        for name in names:
            bits = _final_bits(done, variant.name, name)
            differences = [bits[seed] - baseline[name][seed] for seed in bits if seed in baseline[name]]
            beside = "baseline" if variant.name == plan.baseline else _mean_text(differences, plan, sign=True)
            cells += [_mean_text([*bits.values()], plan), beside]
        rows.append((variant.name, *cells))
    heads = [head for name in names for head in (name, f"Δ {name}")]
    return Table(("variant", *heads), tuple(rows))


def dataset_names(runs: Sequence[Observed]) -> list[str]:
    """The datasets that any run was evaluated on by name, in the order recorded."""
    return list(dict.fromkeys(name for run in runs for end in run.points[-1:] for name in end.bits_by_dataset))


COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "tokens_per_second": ("tokens/s", count_text),
    "tokens_per_cpu_second": ("tokens/CPU-s", count_text),
    "step_seconds": ("step", lambda seconds: f"{1000 * seconds:.0f} ms"),
    "mfu": ("MFU", share_text),
    "peak_memory_bytes": ("memory", lambda size: f"{size / 2**30:.2f} GiB"),
    "data_wait": ("data wait", share_text),
    "communication": ("communication", share_text),
    "forward_time": ("forward", share_text),
    "backward_time": ("backward", share_text),
    "update_time": ("update", share_text),
    "training_seconds": ("training time", duration_text),
    "training_cpu_seconds": ("CPU time", duration_text),
}
"""What a run costs: the column's head and how a number of it is written."""


def cost_table(plan: Plan, runs: Sequence[Observed], comparisons: Sequence[Comparison]) -> Table:
    """A row a variant: means over its finished runs. What no run measured has no column."""
    by_name = {comparison.variant: comparison for comparison in comparisons}
    measured = [name for name in COSTS if any(name in run.numbers for run in runs if run.done)]
    counted: list[Basis] = [
        basis for basis in ("tokens", plan.time) if any(basis in one.reaches for one in comparisons)
    ]
    rows = []
    for variant in plan.variants:
        mine = [run.numbers for run in runs if run.cell.variant.name == variant.name and run.done]
        cells = [_speed_text(by_name.get(variant.name), variant.name, plan)]
        cells += [_reach_text(by_name.get(variant.name), variant.name, plan, basis) for basis in counted]
        for name in measured:
            values = [numbers[name] for numbers in mine if name in numbers]
            cells.append(COSTS[name][1](fmean(values)) if values else NOT_MEASURED)
        rows.append((variant.name, *cells))
    heads = [f"as good after × {COUNTED[basis]}" for basis in counted]
    return Table(
        ("variant", f"{THROUGHPUT[plan.time][1]} × baseline", *heads, *(COSTS[name][0] for name in measured)),
        tuple(rows),
    )


def run_table(runs: Sequence[Observed]) -> Table:
    """A row a run: how it ended and why."""
    rows = [
        (
            run.cell.name,
            run.standing.state,
            "" if run.standing.exit_code is None else str(run.standing.exit_code),
            NOT_MEASURED if not run.points else f"{run.points[-1].bits:.4f}",
            f"{run.points[-1].step:,} of {run.cell.variant.steps:,}"
            if run.points
            else f"0 of {run.cell.variant.steps:,}",
            ", ".join(run.hosts),
            run.standing.reason.splitlines()[0][:200] if run.standing.reason and run.standing.state != "done" else "",
        )
        for run in runs
    ]
    return Table(("run", "state", "exit code", "bits per byte", "evaluated at step", "host", "reason"), tuple(rows))


def settings_table(plan: Plan) -> Table:
    """A row a variant: what distinguishes it."""
    rows = [
        (
            variant.name,
            ", ".join(f"{key}={value}" for key, value in variant.settings.items()) or "the base recipe",
            f"{variant.steps:,}",
            count_text(variant.tokens),
            f"{variant.flops:.3g}",
            count_text(variant.parameters),
        )
        for variant in plan.variants
    ]
    return Table(("variant", "settings", "steps", "tokens", "FLOPs", "parameters"), tuple(rows))


def results_csv(runs: Sequence[Observed]) -> str:
    """One line a run, every number unrounded; a column for each dataset that a run was evaluated on by name."""
    names = [*COSTS]
    datasets = dataset_names(runs)
    head = ["variant", "seed", "state", "exit_code", "steps", "tokens", "flops", "valid_loss", "valid_bits_per_byte"]
    rows = []
    for run in runs:
        last = run.points[-1] if run.points else None
        numbers = [run.numbers.get(name) for name in names]
        reached = [last.step, last.tokens, last.flops, last.loss, last.bits] if last else [None] * 5
        by_dataset = [last.bits_by_dataset.get(name) if last else None for name in datasets]
        stands = run.standing
        begin = [run.cell.variant.name, run.cell.seed, stands.state, stands.exit_code]
        rows.append([*begin, *reached, *by_dataset, *numbers])
    return _csv([*head, *(f"valid_bits_per_byte/{name}" for name in datasets), *names], rows)


def curves_csv(runs: Sequence[Observed]) -> str:
    """One line an evaluation."""
    rows = [
        [
            run.cell.variant.name,
            run.cell.seed,
            at.step,
            at.tokens,
            at.seconds,
            at.cpu_seconds,
            at.flops,
            at.loss,
            at.bits,
        ]
        for run in runs
        for at in run.points
    ]
    head = ["variant", "seed", "step", "tokens", "training_seconds", "cpu_seconds", "flops", "valid_loss"]
    head.append("valid_bits_per_byte")
    return _csv(head, rows)


def comparisons_csv(plan: Plan, comparisons: Sequence[Comparison]) -> str:
    """One line a variant and basis."""
    head = ["variant", "baseline", "held_equal", "pairs", "mean_difference", "half_width", "confidence", "outcome"]
    head += ["as_good_after", "as_good_after_low", "as_good_after_high"]
    rows: list[list[object]] = [
        [
            *(comparison.variant, plan.baseline, basis, difference.interval.count, difference.interval.mean),
            *(difference.interval.half_width, plan.confidence, difference.outcome),
            *_reach_numbers(comparison.reaches.get(basis)),
        ]
        for comparison in comparisons
        for basis, difference in comparison.differences.items()
    ]
    return _csv(head, rows)


def markdown(table: Table) -> str:
    """A table in Markdown; digits to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join(["---", *["---:"] * (len(table.head) - 1)]) + "|"
    return "\n".join([line(table.head), rule, *(line(row) for row in table.rows)])


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return text.getvalue()


def _final_bits(runs: Sequence[Observed], variant: str, dataset: str) -> dict[int, float]:
    """A variant's bits per byte of a dataset at the end, by seed."""
    ends = {run.cell.seed: run.points[-1].bits_by_dataset for run in runs if run.cell.variant.name == variant}
    return {seed: bits[dataset] for seed, bits in ends.items() if dataset in bits}


def _mean_text(values: Sequence[float], plan: Plan, *, sign: bool = False) -> str:
    """The mean with its interval over the seeds."""
    if not values:
        return NOT_MEASURED
    interval = mean_interval(values, plan.confidence)
    mean = signed(interval.mean, 4) if sign else f"{interval.mean:.4f}"
    return mean + _half_width_text(interval)


def _half_width_text(interval: Interval) -> str:
    return "" if interval.half_width is None else f" ± {interval.half_width:.4f}"


def _difference_text(difference: Difference | None) -> str:
    if difference is None:
        return NOT_MEASURED
    interval = difference.interval
    return f"{signed(interval.mean, 4)}{_half_width_text(interval)} ({difference.outcome})"


def _reach_text(comparison: Comparison | None, name: str, plan: Plan, basis: Basis) -> str:
    if name == plan.baseline:
        return "1"
    if comparison is None or basis not in comparison.differences:
        return NOT_MEASURED
    found = comparison.reaches.get(basis)
    return "never" if found is None else found.text()


def _reach_numbers(found: Reach | None) -> tuple[float | None, float | None, float | None]:
    if found is None:
        return None, None, None
    known = math.isfinite(found.high)
    return found.ratio, found.low if known else None, found.high if known else None


def _speed_text(comparison: Comparison | None, name: str, plan: Plan) -> str:
    if name == plan.baseline:
        return "1"
    if comparison is None or comparison.speed is None:
        return NOT_MEASURED
    ratio, low, high = comparison.speed
    return f"{ratio:.2f}" + (f" ({low:.2f} to {high:.2f})" if high != float("inf") else "")
