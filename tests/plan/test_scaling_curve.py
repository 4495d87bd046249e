"""The scaling curve: an exact fit, the run it has not seen, repeats, and where it stops being more than a guess."""

import pytest

from zhgpt.plan.scaling_curve import (
    FAR,
    HOFFMANN,
    Curve,
    Run,
    committed_curves,
    expect,
    fit_curve,
    largest,
    load_runs,
    worth_of,
)


def made_by(truth: Curve) -> list[Run]:
    return [Run("", size, tokens, truth.at(size, tokens)) for size in (10**6, 10**7) for tokens in (10**6, 10**8)]


def test_the_fit_finds_the_curve_that_made_the_runs() -> None:
    truth = Curve(0.6, 0.1, HOFFMANN)
    found = fit_curve(made_by(truth))
    assert [found.floor, found.scale] == pytest.approx([0.6, 0.1], rel=1e-6)


def test_neither_floor_nor_scale_is_negative() -> None:
    below = fit_curve(made_by(Curve(-0.5, 0.3, HOFFMANN)))
    rising = fit_curve(made_by(Curve(2.0, -0.05, HOFFMANN)))
    assert (below.floor, rising.scale) == (0.0, 0.0)
    assert below.scale > 0
    assert rising.floor > 0


def test_the_curve_predicts_the_largest_run_which_it_has_not_seen() -> None:
    runs = load_runs()
    aside = largest(runs)
    curve = fit_curve([run for run in runs if run is not aside])
    assert curve.at(aside.parameters, aside.tokens) == pytest.approx(aside.bits_per_byte, rel=0.06)


def test_near_the_runs_the_band_is_their_error_and_far_from_them_it_is_marked() -> None:
    *_, parameters, tokens = committed_curves()
    near, far = expect(parameters, tokens), expect(parameters * FAR * 2, tokens)
    assert near.extrapolated is None
    assert far.extrapolated == pytest.approx(2 * FAR)
    assert far.high - far.low > near.high - near.low
    assert far.low < far.bits_per_byte < far.high


def test_repeated_tokens_count_less_and_less() -> None:
    assert worth_of(1e9, None) == worth_of(1e9, 2e9) == 1e9
    assert 3.5e8 < worth_of(4e8, 1e8) < 4e8
    assert worth_of(1e11, 1e8) < 17e8
