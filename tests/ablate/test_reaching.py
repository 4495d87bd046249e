"""How soon a variant is as good as the baseline at its end."""

from collections.abc import Callable
from math import exp, log, sqrt
from statistics import fmean, stdev

import pytest
from made_up_ablation import MadeUp, planned

from zhgpt.ablate.comparison import Comparison, compare
from zhgpt.ablate.observed import Point, observe
from zhgpt.ablate.reaching import first_place
from zhgpt.ablate.tables import comparisons_csv, cost_table

Make = Callable[..., MadeUp]


def points(*bits: float) -> list[Point]:
    return [Point(step, step * 100, float(step), None, 0, value * 2, value) for step, value in enumerate(bits, 1)]


def test_a_place_lies_on_the_line_between_two_evaluations() -> None:
    assert first_place(points(3.0, 2.5, 2.0), "tokens", 2.25) == 250
    assert first_place(points(3.0, 2.5, 2.0), "tokens", 2.0) == 300
    assert first_place(points(3.0, 2.0, 2.4, 1.9), "tokens", 2.0) == 200  # the first time, not the last
    assert first_place(points(3.0, 2.5), "tokens", 3.5) == 100  # before its first evaluation nobody knows
    assert first_place(points(3.0, 2.5), "tokens", 2.4) is None
    assert first_place(points(3.0, 2.5), "cpu_seconds", 2.6) is None
    assert first_place([], "tokens", 2.0) is None


def compared(make: Make, *, rate: float = 1000.0, last: float = 1.5) -> tuple[MadeUp, Comparison]:
    """Baselines that end at 2.0, 2.1, 2.2 and variants that fall from 3 at step 5 to ``last`` at step 10."""
    made = make([planned("base"), planned("fast")])
    for seed in (1, 2, 3):
        made.run(f"base-seed{seed}", {5: 3.0, 10: 1.9 + 0.1 * seed})
        made.run(f"fast-seed{seed}", {5: 3.0, 10: last}, rate=rate)
    (comparison,) = compare(made.plan, observe(made.folder, made.plan))
    return made, comparison


def test_the_ratio_is_a_mean_of_logarithms_with_its_interval(made_up: Make) -> None:
    _, comparison = compared(made_up, rate=2000.0)
    ratios = [(5 + 5 * (3.0 - end) / 1.5) / 10 for end in (2.0, 2.1, 2.2)]
    mean, spread = fmean(map(log, ratios)), stdev(map(log, ratios))
    reach = comparison.reaches["tokens"]
    assert reach.ratio == pytest.approx(exp(mean))
    assert reach.high == pytest.approx(exp(mean + 4.30265 * spread / sqrt(3)), abs=1e-4)
    assert comparison.reaches["seconds"].ratio == pytest.approx(exp(mean) / 2)
    words = f"as good as base at its end after {reach.text(' × its tokens')} and "
    assert words in comparison.sentence


def test_what_is_never_as_good_says_never(made_up: Make) -> None:
    made, comparison = compared(made_up, last=2.15)
    assert comparison.reaches == {}
    assert "at its end after" not in comparison.sentence
    assert "as good after × tokens" not in cost_table(made.plan, observe(made.folder, made.plan), [comparison]).head


def test_what_was_not_compared_does_not_say_never(made_up: Make) -> None:
    made = made_up([planned("base"), planned("fast"), planned("lost")])
    for seed in (1, 2, 3):
        made.run(f"base-seed{seed}", {5: 3.0, 10: 2.0})
        made.run(f"fast-seed{seed}", {5: 3.0, 10: 1.9})
        made.run(f"lost-seed{seed}", {5: 3.0}, code=76)
    runs = observe(made.folder, made.plan)
    table = cost_table(made.plan, runs, compare(made.plan, runs))
    assert [row[table.head.index("as good after × tokens")] for row in table.rows][::2] == ["1", "–"]


def test_the_tables_have_it(made_up: Make) -> None:
    made, comparison = compared(made_up)
    table = cost_table(made.plan, observe(made.folder, made.plan), [comparison])
    column = table.head.index("as good after × tokens")
    assert [row[column] for row in table.rows] == ["1", comparison.reaches["tokens"].text()]
    head, first, *_ = (line.split(",") for line in comparisons_csv(made.plan, [comparison]).splitlines())
    assert float(first[head.index("as_good_after")]) == pytest.approx(comparison.reaches["tokens"].ratio)
