"""The report's pictures, drawn without a display and without a font that the reader would need."""

import io
import math
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from zhgpt.evaluate.learning_verdict import series
from zhgpt.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    MOST_POINTS,
    ORANGE,
    RED,
    STYLE,
    Curves,
    Plot,
    columns,
    marker,
    thinned,
)
from zhgpt.report.health_plots import mark_findings

_SMOOTH_FROM = 40
_MOST_DOTS = 60
# A gradient norm that spans more than this factor is drawn on a logarithmic axis.
_LOGARITHMIC_FROM = 30.0


def render_svg(plot: Plot, curves: Curves) -> bytes | None:
    """The picture as SVG with its text as outlines; ``None`` when there is nothing to draw."""
    return _render(plot, curves, "svg")


def render_png(plot: Plot, curves: Curves) -> bytes | None:
    """The picture as PNG at 160 dots an inch; ``None`` when there is nothing to draw."""
    return _render(plot, curves, "png")


def _render(plot: Plot, curves: Curves, kind: str) -> bytes | None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.2) if plot.wide else (5.6, 3.2), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        if not plot.draw(curves, axes):
            return None
        last_step = max(record["step"] for record in curves.records)
        for step in (step for step in curves.resumed_steps if step <= last_step):
            axes.axvline(step, color=GREY, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
        if plot.name in ("loss", "bits_per_byte"):
            mark_findings(curves, axes)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 2.5, 5, 10]))
        axes.margins(x=0.02)
        picture = io.BytesIO()
        # No date: the same run gives the same bytes.
        figure.savefig(picture, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {})
    return picture.getvalue()


def _draw_loss(curves: Curves, axes: Axes) -> bool:
    floor = curves.floor
    return _draw_against_floor(
        axes, curves, ("loss", "valid_loss"), (floor.unigram_loss, floor.bigram_loss), "loss (nats per token)"
    )


def _draw_bits_per_byte(curves: Curves, axes: Axes) -> bool:
    floor = curves.floor
    lines = (floor.unigram_bits_per_byte, floor.bigram_bits_per_byte)
    expected = curves.expected
    if expected is not None:
        label = "expected" if expected.extrapolated is None else f"expected (extrapolated {expected.extrapolated:.0f}×)"
        axes.fill_between(expected.steps, expected.low, expected.high, color=GREY, alpha=0.15, linewidth=0, zorder=1)
        axes.plot(expected.steps, expected.middle, color=GREY, linestyle=":", linewidth=1.4, label=label, zorder=2)
    return _draw_against_floor(axes, curves, ("bits_per_byte", "valid_bits_per_byte"), lines, "bits per UTF-8 byte")


def _draw_against_floor(
    axes: Axes,
    curves: Curves,
    names: tuple[str, str],
    lines: tuple[float | None, float | None],
    label: str,
) -> bool:
    points = series(curves.records, names[0])
    training = [(step, value) for step, value in points if math.isfinite(value)]
    held_out = [(step, value) for step, value in series(curves.records, names[1]) if math.isfinite(value)]
    if not training and not held_out:
        return False
    for value, name, style in ((lines[0], "unigram line", "--"), (lines[1], "bigram line", "-.")):
        if value is not None:
            color = RED if name == "unigram line" else ORANGE
            axes.axhline(value, color=color, linestyle=style, linewidth=1.4, label=f"{name} {value:.2f}", zorder=2)
    _draw_training(axes, training)
    if held_out:
        dots = "o" if len(held_out) <= _MOST_DOTS else "None"
        steps, losses = columns(_condensed(held_out))
        axes.plot(steps, losses, color=GREEN, marker=dots, markersize=4.5, linewidth=1.2, label="held out", zorder=4)
    lost = [step for step, value in points if not math.isfinite(value)]
    if lost:
        bottom = [0.02] * len(lost)
        axes.plot(
            lost, bottom, "x", color=RED, transform=axes.get_xaxis_transform(), label="not a finite number", zorder=5
        )
    _limit(axes, [value for _, value in training], [value for value in lines if value is not None])
    axes.set_ylabel(label)
    axes.legend(loc="upper right")
    return True


def _draw_training(axes: Axes, training: list[tuple[int, float]]) -> None:
    if not training:
        return
    steps, values = columns(training)
    if len(values) < _SMOOTH_FROM:
        axes.plot(steps, values, color=BLUE, linewidth=1.5, marker="o", markersize=3, label="training", zorder=3)
        return
    axes.plot(*columns(thinned(training)), color=BLUE, alpha=0.3, linewidth=0.8, zorder=2.5)
    steps, values = columns(_condensed(training))
    smooth = _centred_median(values, max(2, len(values) // 100))
    axes.plot(steps, smooth, color=BLUE, linewidth=1.6, label="training (running median)", zorder=3)


def _condensed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `MOST_POINTS` points: the middle step and the median of each stretch."""
    stretch = math.ceil(len(points) / MOST_POINTS)
    parts = [points[start : start + stretch] for start in range(0, len(points), stretch)]
    return [(part[len(part) // 2][0], median(value for _, value in part)) for part in parts]


def _centred_median(values: list[float], reach: int) -> list[float]:
    """The median of each value and up to ``reach`` on either side, fewer near the ends, so that the curve does not lag."""
    last = len(values) - 1
    smooth = []
    for place in range(len(values)):
        near = min(reach, place, last - place)
        smooth.append(median(values[place - near : place + near + 1]))
    return smooth


def _limit(axes: Axes, values: list[float], lines: list[float]) -> None:
    """Keep one wild spike from flattening everything: no higher than a quarter above the start and the lines."""
    if not values:
        return
    ceiling = 1.25 * max([values[0], *lines])
    if max(values) > ceiling:
        low = min([*values, *lines])
        axes.set_ylim(low - 0.05 * (ceiling - low), ceiling)


def _draw_learning_rate(curves: Curves, axes: Axes) -> bool:
    drawn = _draw_one(axes, curves, "learning_rate", "learning rate", BLUE, None)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    return drawn


def _draw_gradient_norm(curves: Curves, axes: Axes) -> bool:
    drawn = _draw_one(axes, curves, "gradient_norm", "gradient norm (before clipping)", BLUE, None)
    positive = [norm for _, norm in series(curves.records, "gradient_norm") if math.isfinite(norm) and norm > 0]
    if positive and max(positive) > _LOGARITHMIC_FROM * min(positive):
        axes.set_yscale("log")
    return drawn


def _draw_throughput(curves: Curves, axes: Axes) -> bool:
    if not _draw_one(axes, curves, "tokens_per_second", "tokens per second, all ranks", BLUE, EngFormatter(sep="")):
        return False
    axes.set_ylim(bottom=0)
    shares = [(step, 100 * share) for step, share in series(curves.records, "mfu") if math.isfinite(share)]
    if shares:
        right = axes.twinx()
        right.plot(*columns(thinned(shares)), color=ORANGE, linewidth=1.1, linestyle=":", marker=marker(shares))
        right.set_ylabel("MFU (% of peak)", color=ORANGE)
        right.set_ylim(bottom=0, top=max(10.0, 1.3 * max(share for _, share in shares)))
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        axes.yaxis.label.set_color(BLUE)
    return True


def _draw_one(axes: Axes, curves: Curves, name: str, label: str, color: str, formatter: EngFormatter | None) -> bool:
    points = [(step, value) for step, value in series(curves.records, name) if math.isfinite(value)]
    if not points:
        return False
    axes.plot(*columns(thinned(points)), color=color, linewidth=1.3, marker=marker(points), markersize=4)
    axes.set_ylabel(label)
    if formatter is not None:
        axes.yaxis.set_major_formatter(formatter)
    return True


PLOTS: tuple[Plot, ...] = (
    Plot(
        "loss",
        "Loss against the floor",
        "The unigram line is the loss of a model that knows how frequent each token is and nothing else; the bigram "
        "line that of one that also knows the token before. Dotted vertical lines: the run was resumed there. Shaded: what the "
        "detectors found, by number.",
        True,
        _draw_loss,
    ),
    Plot(
        "bits_per_byte",
        "Bits per byte",
        "The same per byte of text, so that runs with different tokenizers can be compared. Expected: what a run of this size "
        "reaches that ends at that step, by the planner's curve, taken to this text by the ratio of the unigram lines.",
        False,
        _draw_bits_per_byte,
    ),
    Plot("learning_rate", "Learning rate", "The rate each step's update used.", False, _draw_learning_rate),
    Plot("throughput", "Throughput", "Training alone; evaluation and saving stop the clock.", False, _draw_throughput),
    Plot("gradient_norm", "Gradient norm", "L2 norm of all gradients, before clipping.", False, _draw_gradient_norm),
)
