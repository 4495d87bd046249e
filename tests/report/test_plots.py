"""The report's pictures: drawn from whole and from poor runs."""

import math
from typing import Any
from xml.etree import ElementTree

import pytest

from zhgpt.evaluate.learning_verdict import Floor
from zhgpt.report.drawing import Curves, thinned
from zhgpt.report.plots import PLOTS, _centred_median, _condensed, render_png, render_svg
from zhgpt.report.routing_plots import ROUTING_PLOTS, _load_table

FLOOR = Floor(7.0, 5.0, 2.4, 1.7)


def _record(step: int, **fields: Any) -> dict[str, Any]:
    record = {
        "step": step,
        "loss": 9.0 - step / 100,
        "bits_per_byte": 3.0,
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "tokens_per_second": 1e4,
        "mfu": 0.4,
    }
    return record | fields


RUNS: dict[str, list[dict[str, Any]]] = {
    "one point": [_record(1)],
    "nulls": [_record(1, loss=None, mfu=None), _record(2, gradient_norm=None), _record(3)],
    "nan": [_record(1), _record(2, loss=math.nan, gradient_norm=math.inf), _record(3)],
    "spike": [_record(step, loss=900.0 if step == 50 else 5.0) for step in range(1, 100)],
    "constant": [_record(7, loss=1.0, valid_loss=1.0) for _ in range(3)],
    "wild norms": [_record(step, gradient_norm=10.0**step) for step in range(-3, 4)],
    "zero": [_record(step, tokens_per_second=0.0, mfu=0.0, gradient_norm=0.0, learning_rate=0.0) for step in (1, 2)],
    "long": [_record(step) for step in range(5000)],
}


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
@pytest.mark.parametrize("run", RUNS)
def test_every_plot_is_drawn_from_every_run(run: str, plot: Any) -> None:
    svg = render_svg(plot, Curves(RUNS[run], FLOOR, resumed_steps=(2,)))
    assert svg is not None
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert len(svg) < 400_000
    assert not [element for element in root.iter() if element.tag.endswith("}text")], "text must be outlines"


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
@pytest.mark.parametrize("records", [[], [{"step": 1}], [{"step": 1, "loss": math.nan, "gradient_norm": math.nan}]])
def test_nothing_to_draw_gives_no_picture(records: list[dict[str, Any]], plot: Any) -> None:
    assert render_svg(plot, Curves(records, FLOOR)) is None


def _mixture(steps: int, layers: int = 2, experts: int = 4) -> Curves:
    """A run of a mixture whose expert 0 takes more and more."""
    records = [
        _record(
            step, expert_load_max=2.0, expert_load_min=0.1, router_loss=0.04, router_entropy=1.2, dropped_share=0.01
        )
        for step in range(1, steps + 1)
    ]
    routing = []
    for step in range(1, steps + 1):
        first = 1 / experts + step / steps / 2
        load = [first, *[(1 - first) / (experts - 1)] * (experts - 1)]
        routing.append({"step": step, "layers": [{"layer": layer, "load": load} for layer in range(layers)]})
    return Curves(records, FLOOR, routing=routing)


@pytest.mark.parametrize("plot", ROUTING_PLOTS, ids=lambda plot: plot.name)
@pytest.mark.parametrize("curves", [_mixture(1), _mixture(30), _mixture(3000, 24, 64)], ids=["one", "short", "large"])
def test_the_pictures_of_a_mixture_are_drawn_and_small(plot: Any, curves: Curves) -> None:
    svg = render_svg(plot, curves)
    assert svg is not None
    assert len(svg) < 900_000
    assert render_svg(plot, Curves(RUNS["long"], FLOOR)) is None, "a dense run has no such picture"


def test_loads_are_shown_in_even_shares() -> None:
    table, steps = _load_table(_mixture(30).routing)
    assert table.shape == (8, 30)
    assert table[:, -1] == pytest.approx([3.0, 1 / 3, 1 / 3, 1 / 3] * 2)
    assert steps == [*range(1, 31), 30]
    assert _load_table(_mixture(3000).routing)[0].shape == (8, 200)


def test_a_picture_is_the_same_bytes_each_time() -> None:
    curves = Curves(RUNS["nan"], FLOOR)
    assert render_svg(PLOTS[0], curves) == render_svg(PLOTS[0], curves)


def test_a_png_is_a_png() -> None:
    picture = render_png(PLOTS[0], Curves(RUNS["one point"], Floor()))
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def test_thinning_keeps_the_highest_and_the_lowest() -> None:
    points = [(step, 1.0) for step in range(10_000)]
    points[4321], points[8765] = (4321, 9.0), (8765, -9.0)
    kept = thinned(points)
    assert len(kept) <= 1600
    assert (4321, 9.0) in kept
    assert (8765, -9.0) in kept
    assert kept == sorted(kept)
    assert thinned(points[:100]) == points[:100]


def test_condensing_takes_the_median_of_each_stretch() -> None:
    points = [(step, 99.0 if step % 5 == 0 else 1.0) for step in range(7_500)]
    condensed = _condensed(points)
    assert len(condensed) == 1500
    assert condensed[:2] == [(2, 1.0), (7, 1.0)]
    assert _condensed(points[:3]) == points[:3]


def test_the_centred_median_neither_lags_nor_keeps_a_spike() -> None:
    assert _centred_median([5.0, 4.0, 99.0, 2.0, 1.0], 1) == [5.0, 5.0, 4.0, 2.0, 1.0]
    assert _centred_median([5.0, 4.0, 3.0, 2.0, 1.0], 2) == [5.0, 4.0, 3.0, 2.0, 1.0]
