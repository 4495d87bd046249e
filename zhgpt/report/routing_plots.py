"""Pictures of a mixture of experts: who carries the load, how even it is, what the routers do about it."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zhgpt.evaluate.learning_verdict import series
from zhgpt.report.drawing import BLUE, GREEN, ORANGE, RED, Curves, Plot, columns, marker, thinned

_MOST_COLUMNS = 200
_BRIGHTEST = 2.0
"""Loads from here on, in even shares, have the same colour."""


def _draw_loads(curves: Curves, axes: Axes) -> bool:
    """One row an expert, layer over layer, one column a stretch of steps."""
    if not curves.routing:
        return False
    loads, steps = _load_table(curves.routing)
    last = curves.routing[-1]["layers"]
    sizes = [len(layer["load"]) for layer in last]
    edges = np.cumsum([0, *sizes])
    axes.imshow(
        loads,
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r",
        vmin=0.0,
        vmax=_BRIGHTEST,
        extent=(steps[0], max(steps[-1], steps[0] + 1), edges[-1], 0),
    )
    for edge in edges[1:-1]:
        axes.axhline(edge, color="white", linewidth=1.5)
    axes.set_yticks([(low + high) / 2 for low, high in itertools.pairwise(edges)])
    axes.set_yticklabels([str(layer["layer"]) for layer in last])
    axes.set_ylabel("layer, its experts from top to bottom")
    axes.grid(visible=False)
    figure = axes.figure
    colours = figure.colorbar(axes.images[0], ax=axes, shrink=0.85, pad=0.01)
    colours.set_label("times an even share")
    return True


def _load_table(routing: Sequence[Any]) -> tuple[np.ndarray, list[int]]:
    """Loads (all experts, columns) in even shares, each column the mean of a stretch of lines, and the columns' steps."""
    lines = [
        np.concatenate([np.asarray(layer["load"], float) * len(layer["load"]) for layer in entry["layers"]])
        for entry in routing
    ]
    stretch = math.ceil(len(lines) / _MOST_COLUMNS)
    starts = range(0, len(lines), stretch)
    table = np.stack([np.mean(lines[start : start + stretch], axis=0) for start in starts], axis=1)
    return table, [int(routing[start]["step"]) for start in starts] + [int(routing[-1]["step"])]


def _draw_balance(curves: Curves, axes: Axes) -> bool:
    """The fullest and the emptiest expert, and what was dropped."""
    if not _draw_lines(
        axes, curves, {"expert_load_max": ("fullest expert", RED), "expert_load_min": ("emptiest", BLUE)}
    ):
        return False
    axes.axhline(1.0, color=GREEN, linestyle="--", linewidth=1.0, label="even")
    axes.set_ylabel("load (times an even share)")
    axes.set_ylim(bottom=0)
    dropped = [(step, 100 * share) for step, share in series(curves.records, "dropped_share")]
    if any(share for _, share in dropped):
        right = axes.twinx()
        right.plot(*columns(thinned(dropped)), color=ORANGE, linewidth=1.1, linestyle=":", label="dropped")
        right.set_ylabel("dropped (% of the assignments)", color=ORANGE)
        right.set_ylim(bottom=0)
        right.grid(visible=False)
    axes.legend(loc="upper right")
    return True


def _draw_routers(curves: Curves, axes: Axes) -> bool:
    """The routers' losses, their entropy and the largest selection bias."""
    names = {
        "router_loss": ("losses, all layers", BLUE),
        "router_entropy": ("entropy (nats a token)", GREEN),
        "selection_bias_max": ("largest selection bias", ORANGE),
    }
    if not _draw_lines(axes, curves, names):
        return False
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    return True


def _draw_lines(axes: Axes, curves: Curves, names: dict[str, tuple[str, str]]) -> bool:
    drawn = False
    for name, (label, colour) in names.items():
        points = [(step, value) for step, value in series(curves.records, name) if math.isfinite(value)]
        if points:
            axes.plot(*columns(thinned(points)), color=colour, linewidth=1.3, marker=marker(points), label=label)
            drawn = True
    return drawn


ROUTING_PLOTS: tuple[Plot, ...] = (
    Plot(
        "expert_loads",
        "Load of every expert",
        "White is an even share of the tokens, red more, blue less; an expert that stays dark blue is dead weight.",
        True,
        _draw_loads,
    ),
    Plot(
        "expert_balance",
        "Balance of the experts",
        "The fullest and the emptiest expert of all layers; dotted: assignments past the capacity.",
        False,
        _draw_balance,
    ),
    Plot(
        "routers",
        "Routers",
        "What the routers' losses add to the loss, how undecided they are, and how far the selection bias has moved.",
        False,
        _draw_routers,
    ),
)
