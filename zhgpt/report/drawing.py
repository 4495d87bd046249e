"""What pictures share: their style, and those of a run's report curves, plots, colours, and points thinned out for drawing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from zhgpt.evaluate.learning_verdict import Floor
from zhgpt.health.detector import Finding

BLUE, ORANGE, RED, GREY, GREEN = "#2563a8", "#d9730d", "#b3261e", "#6b7280", "#2e7d4f"
MOST_POINTS = 1500
# Any: matplotlib types these by a literal of every parameter it has.
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fancybox": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "zhgpt",
}
"""Of every picture: runs, ablations, tokenizers."""


@dataclass(frozen=True)
class Expected:
    """What a run of this size reaches that ends at a step, in bits per byte with a band.

    Attributes:
        steps: of the points.
        middle: the curve.
        low: the lower edge of the band.
        high: the upper edge.
        extrapolated: how far beyond the runs that the curve was fitted to, as a factor; None: within ten times of them.
    """

    steps: Sequence[int]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    extrapolated: float | None


@dataclass(frozen=True)
class Curves:
    """What the plots are drawn from.

    Attributes:
        records: the records of metrics.jsonl.
        floor: the dataset's unigram and bigram lines.
        resumed_steps: steps at which the run was resumed.
        routing: the lines of routing.jsonl; none for a dense model.
        findings: what the detectors found, in the order in which it began.
        expected: what a run of this size should do; None where that is not known.
    """

    records: Sequence[Mapping[str, Any]]
    floor: Floor
    resumed_steps: Sequence[int] = ()
    routing: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Finding] = ()
    expected: Expected | None = None


@dataclass(frozen=True)
class Plot:
    """One picture: its name, the sentence under it, and how it is drawn."""

    name: str
    title: str
    caption: str
    wide: bool
    draw: Callable[[Curves, Axes], bool]


def marker(points: Sequence[tuple[int, float]]) -> str:
    """A dot where a line would have no length."""
    return "o" if len(points) < 3 else "None"


def columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Steps and values apart."""
    return [step for step, _ in points], [value for _, value in points]


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about `MOST_POINTS` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(points) <= MOST_POINTS:
        return points
    stretch = math.ceil(2 * len(points) / MOST_POINTS)
    kept: list[tuple[int, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept.extend(sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}))
    return kept
