"""The ablation's pictures: held-out curves with seed bands, differences with their intervals, speed and memory."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from zhgpt.ablate.comparison import BASES, THROUGHPUT, Comparison
from zhgpt.ablate.observed import Basis, Observed, Point
from zhgpt.ablate.plan import Plan
from zhgpt.ablate.tables import compared_bases
from zhgpt.report.drawing import STYLE

# Okabe and Ito's colours, which differ for colour-blind readers too; the baseline is black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#8c564b")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))
_FEW = 8
"""Curves of fewer evaluations show each of them, from the first on."""
_AXES: dict[Basis, str] = {
    "tokens": "tokens trained on",
    "seconds": "training time (s)",
    "cpu_seconds": "CPU seconds of training, all ranks",
    "flops": "training FLOPs (active parameters)",
}


@dataclass(frozen=True)
class Shown:
    """What the pictures are drawn from."""

    plan: Plan
    runs: Sequence[Observed]
    comparisons: Sequence[Comparison]

    def of(self, variant: str) -> list[Observed]:
        """The variant's runs that got somewhere."""
        return [run for run in self.runs if run.cell.variant.name == variant and run.points]

    def style(self, variant: str) -> dict[str, Any]:
        """The variant's line, the same in every picture."""
        if variant == self.plan.baseline:
            return {"color": "#111827", "linestyle": "-", "linewidth": 1.8}
        others = [other.name for other in self.plan.variants if other.name != self.plan.baseline]
        place = others.index(variant)
        dash = _DASHES[(1 + place // len(_COLOURS)) % len(_DASHES)] if place >= len(_COLOURS) else "-"
        return {"color": _COLOURS[place % len(_COLOURS)], "linestyle": dash, "linewidth": 1.5}


@dataclass(frozen=True)
class Picture:
    """One picture: its file's name, its title, the sentence under it, and how it is drawn."""

    name: str
    title: str
    caption: str
    wide: bool
    draw: Callable[[Shown, Axes], bool]


def render(picture: Picture, shown: Shown, kind: Literal["svg", "png"]) -> bytes | None:
    """The picture as SVG or PNG; None when there is nothing to draw."""
    rows = max(len(shown.plan.variants), 3)
    height = min(12.0, 1.2 + 0.42 * rows) if picture.name in ("differences", "breakdown", "speed", "memory") else 4.2
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6 if picture.wide else 5.6, height), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        if not picture.draw(shown, axes):
            return None
        content = io.BytesIO()
        # No date: the same runs give the same bytes.
        figure.savefig(content, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {})
    return content.getvalue()


def _curves(basis: Basis) -> Callable[[Shown, Axes], bool]:
    def draw(shown: Shown, axes: Axes) -> bool:
        last: list[float] = []
        for variant in shown.plan.variants:
            runs = [run for run in shown.of(variant.name) if run.done] or shown.of(variant.name)
            if runs:
                last += _band(axes, runs, basis, variant.name, shown.style(variant.name))
        if not last:
            return False
        axes.set_xlabel(_AXES[basis])
        axes.set_ylabel("held-out bits per byte")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _leave_out_the_fall(axes, shown)
        axes.legend(loc="upper right", fontsize=9, ncols=1 + len(shown.plan.variants) // 9)
        return True

    return draw


def _band(axes: Axes, runs: Sequence[Observed], basis: Basis, name: str, style: dict[str, Any]) -> list[float]:
    """Mean over the seeds as a line, least to greatest as a band, at the steps that all of them evaluated."""
    by_step: dict[int, list[Point]] = {}
    for run in runs:
        for point in run.points:
            by_step.setdefault(point.step, []).append(point)
    columns = [found for _, found in sorted(by_step.items()) if len(found) == len(runs)]
    if not columns or any(getattr(point, basis) is None for column in columns for point in column):
        return []
    places = [fmean(getattr(point, basis) for point in column) for column in columns]
    means = [fmean(point.bits for point in column) for column in columns]
    axes.plot(places, means, label=name, marker="o" if len(columns) < _FEW else None, markersize=4, **style)
    low, high = [[end(point.bits for point in column) for column in columns] for end in (min, max)]
    axes.fill_between(places, low, high, color=style["color"], alpha=0.15, linewidth=0)
    return means


def _leave_out_the_fall(axes: Axes, shown: Shown) -> None:
    """Show the end of the curves, where variants differ: the first evaluation may be far above."""
    ends = [run.points[-1].bits for run in shown.runs if run.points]
    starts = [run.points[0].bits for run in shown.runs if run.points]
    if max(len(run.points) for run in shown.runs) < _FEW:
        return
    low, high = min(ends), max(ends)
    room = max(0.12 * (max(starts) - low), 1.6 * (high - low), 1e-3)
    if high + room < max(starts):
        axes.set_ylim(low - 0.15 * room, max(high + room, low + 0.6 * (max(starts) - low)))


def _differences(shown: Shown, axes: Axes) -> bool:
    bases = compared_bases(shown.comparisons)
    drawn = [comparison for comparison in shown.comparisons if comparison.differences]
    for row, comparison in enumerate(drawn):
        for place, basis in enumerate(bases):
            difference = comparison.differences.get(basis)
            if difference is None:
                continue
            interval = difference.interval
            axes.errorbar(
                interval.mean,
                row + (place - (len(bases) - 1) / 2) * 0.22,
                xerr=interval.half_width,
                color=_COLOURS[place],
                marker="osD^"[place],
                markersize=5,
                capsize=3,
                label=f"at {BASES[basis]}" if row == 0 else None,
            )
    if not drawn:
        return False
    edge = shown.plan.indifference
    axes.axvspan(-edge, edge, color="#6b7280", alpha=0.15, linewidth=0)
    axes.axvline(0, color="#111827", linewidth=1)
    axes.set_yticks(range(len(drawn)), [comparison.variant for comparison in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlabel(f"bits per byte more than {shown.plan.baseline} (to the left is better)")
    axes.legend(loc="best", fontsize=9)
    return True


def _throughput(shown: Shown, axes: Axes) -> bool:
    return _bars(*THROUGHPUT[shown.plan.time], 1.0)(shown, axes)


def _bars(name: str, label: str, scale: float) -> Callable[[Shown, Axes], bool]:
    def draw(shown: Shown, axes: Axes) -> bool:
        rows = [
            (variant.name, [run.numbers[name] / scale for run in shown.of(variant.name) if name in run.numbers])
            for variant in shown.plan.variants
        ]
        rows = [(variant, values) for variant, values in rows if values]
        if not rows:
            return False
        for row, (variant, values) in enumerate(rows):
            mean = sum(values) / len(values)
            axes.barh(row, mean, 0.6, color=shown.style(variant)["color"], alpha=0.75)
            axes.plot(values, [row] * len(values), "o", color="#111827", markersize=3)
        axes.set_yticks(range(len(rows)), [variant for variant, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
        return True

    return draw


def _breakdown(shown: Shown, axes: Axes) -> bool:
    parts = ("forward_time", "backward_time", "update_time", "data_wait")
    rows = [
        (variant.name, [run.numbers for run in shown.of(variant.name) if "forward_time" in run.numbers])
        for variant in shown.plan.variants
    ]
    rows = [(name, found) for name, found in rows if found]
    for row, (_, found) in enumerate(rows):
        left = 0.0
        for place, part in enumerate(parts):
            seconds = [
                numbers.get(part, 0.0) * numbers["step_seconds"] for numbers in found if "step_seconds" in numbers
            ]
            width = 1000 * sum(seconds) / max(1, len(seconds))
            label = part.removesuffix("_time").replace("_", " ") if row == 0 else None
            axes.barh(row, width, 0.6, left=left, color=_COLOURS[place], alpha=0.8, label=label)
            left += width
        shares = [n["communication"] * n["step_seconds"] for n in found if "communication" in n and "step_seconds" in n]
        if shares:
            length = 1000 * sum(shares) / len(shares)
            axes.plot(
                [0, length], [row + 0.38] * 2, color="#111827", linewidth=3, label="communication" if row == 0 else None
            )
    if not rows:
        return False
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.3, -0.6)
    axes.set_xlabel("milliseconds a step")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, fontsize=9)
    return True


_BAND = "The line is the mean over the seeds, the band reaches from the least to the greatest of them."
PICTURES: tuple[Picture, ...] = (
    Picture("tokens", "Held-out bits per byte against tokens", _BAND, True, _curves("tokens")),
    Picture(
        "seconds",
        "Against training time",
        f"{_BAND} Training alone: starting, evaluating and saving are not counted.",
        False,
        _curves("seconds"),
    ),
    Picture(
        "cpu_seconds",
        "Against CPU-seconds",
        f"{_BAND} Of all ranks, training alone; hardly changed by other work on the machine.",
        False,
        _curves("cpu_seconds"),
    ),
    Picture("flops", "Against FLOPs", f"{_BAND} FLOPs of the active parameters.", False, _curves("flops")),
    Picture(
        "differences",
        "Differences to the baseline",
        "Mean over pairs of the same seed, with its interval. Grey: so near to zero that it is called the same.",
        True,
        _differences,
    ),
    Picture(
        "breakdown",
        "Where a step's time goes",
        "Rank 0. Communication, the black line, happens within the other parts, and waiting for other ranks counts in it.",
        True,
        _breakdown,
    ),
    Picture(
        "speed",
        "Throughput",
        "Bars: mean; dots: each run's median.",
        False,
        _throughput,
    ),
    Picture(
        "memory",
        "Peak memory of a rank",
        "Bars: mean; dots: each run's greatest. On a CPU the whole process, interpreter and libraries included.",
        False,
        _bars("peak_memory_bytes", "GiB", 2**30),
    ),
)
