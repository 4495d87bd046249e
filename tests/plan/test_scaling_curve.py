"""The scaling curve: an exact fit, the run it has not seen, repeats, and where it stops being more than a guess."""

import pytest

from zhgpt.plan.scaling_curve import (
    FAR,
    HOFFMANN,
    Curve,
    Run,
    committed_curves,
    error_on_left_out,
    expect,
    fit_curve,
    largest,
    load_runs,
    with_little_text,
    worth_of,
    worth_of_parameters,
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
    assert curve.at(aside.parameters, aside.tokens) == pytest.approx(aside.bits_per_byte, rel=0.05)


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


def test_parameters_that_the_text_does_not_feed_count_less_and_less() -> None:
    assert worth_of_parameters(1e8, None) == worth_of_parameters(1e8, 2e9) == 1e8
    assert 1e8 < worth_of_parameters(2e8, 2e9) < 2e8
    assert worth_of_parameters(1e12, 2e9) < 6.31e8


def test_with_little_text_a_larger_model_gains_less_than_by_the_plain_curve() -> None:
    plain = expect(2e7, 4e8, 1e8).bits_per_byte - expect(2e8, 4e8, 1e8).bits_per_byte
    counted = with_little_text(2e7, 4e8, 1e8) - with_little_text(2e8, 4e8, 1e8)
    assert 0 < counted < plain / 2


def test_the_error_that_is_shown_is_that_of_the_run_left_out() -> None:
    run, error = error_on_left_out()
    assert run == largest(load_runs())
    assert (1 + error) * run.bits_per_byte == pytest.approx(committed_curves()[0].at(run.parameters, run.tokens))
