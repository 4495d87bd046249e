"""What the detectors found, drawn into the plots of the run, and pictures of what only they look at."""

import math

from matplotlib.axes import Axes

from zhgpt.evaluate.learning_verdict import series
from zhgpt.report.drawing import BLUE, GREEN, ORANGE, RED, Curves, Plot, columns, marker, thinned

_SHADED = 0.08


def mark_findings(curves: Curves, axes: Axes) -> None:
    """Shades the steps of each finding and writes its number, as in the page's list, at its beginning."""
    for number, finding in enumerate(curves.findings, start=1):
        axes.axvspan(finding.first_step, finding.last_step, color=RED, alpha=_SHADED, linewidth=0, zorder=0)
        axes.axvline(finding.first_step, color=RED, linewidth=0.7, alpha=0.6, zorder=1)
        axes.annotate(
            str(number),
            (finding.first_step, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(1, 2 + 9 * ((number - 1) % 2)),  # two rows, so that neighbours do not cover each other
            textcoords="offset points",
            color=RED,
            fontsize=8,
            annotation_clip=False,
        )


def _draw_update_ratios(curves: Curves, axes: Axes) -> bool:
    names = {
        "update_ratio_max": ("largest of a layer", RED),
        "update_ratio": ("median", BLUE),
        "update_ratio_min": ("smallest of a layer", GREEN),
    }
    drawn = False
    for name, (label, color) in names.items():
        points = [(step, ratio) for step, ratio in series(curves.records, name) if math.isfinite(ratio) and ratio > 0]
        if points:
            axes.plot(*columns(thinned(points)), color=color, linewidth=1.2, marker=marker(points), label=label)
            drawn = True
    if drawn:
        axes.set_yscale("log")
        axes.set_ylabel("update / weight, a step")
        axes.legend(loc="upper right")
    return drawn


def _draw_samples(curves: Curves, axes: Axes) -> bool:
    names = {
        "sample_repeated_4gram_share": ("repeated 4-grams", BLUE),
        "sample_punctuation_share": ("punctuation", ORANGE),
        "memorised_share": ("copied from the training text", RED),
    }
    drawn = False
    for name, (label, color) in names.items():
        points = [(step, 100 * share) for step, share in series(curves.records, name)]
        if points:
            axes.plot(*columns(points), color=color, linewidth=1.2, marker="o", markersize=3, label=label)
            drawn = True
    if drawn:
        axes.set_ylim(-2, 102)
        axes.set_ylabel("% of the samples")
        axes.legend(loc="upper right")
    return drawn


HEALTH_PLOTS: tuple[Plot, ...] = (
    Plot(
        "update_ratios",
        "Update-to-weight ratio",
        "How far a step moves a layer, relative to its weights; about 1e-3 is usual at full learning rate in large models, more "
        "in small ones.",
        False,
        _draw_update_ratios,
    ),
    Plot(
        "samples",
        "Text samples",
        "Of the text samples at each evaluation: what repeats, what is punctuation, and which 30-character windows stand in the "
        "training text.",
        False,
        _draw_samples,
    ),
)
