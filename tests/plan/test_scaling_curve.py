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
    load_other_runs,
    load_runs,
    miss_on_other_texts,
    unigram_of_the_runs,
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


def test_another_text_costs_what_its_unigram_line_says_within_what_the_curve_missed_there() -> None:
    ours, line = expect(2e6, 1e6), unigram_of_the_runs()
    alike, other = expect(2e6, 1e6, None, line * 1.01), expect(2e6, 1e6, None, line * 0.7)
    assert (ours.unigram_ratio, ours.is_on_other_text, alike.is_on_other_text) == (None, False, False)
    assert other.is_on_other_text
    assert other.bits_per_byte == pytest.approx(0.7 * ours.bits_per_byte)
    assert alike.high / alike.low == pytest.approx(ours.high / ours.low)
    assert other.high / other.bits_per_byte == other.bits_per_byte / other.low == pytest.approx(miss_on_other_texts())


def test_the_band_on_another_text_holds_all_runs_of_ours_on_other_texts() -> None:
    assert len(load_other_runs()) >= 2
    for other in load_other_runs():
        said = expect(other.run.parameters, other.run.tokens, other.unique_tokens, other.unigram_bits_per_byte)
        assert said.low <= other.run.bits_per_byte * (1 + 1e-9)
        assert said.high >= other.run.bits_per_byte
        assert (1 + other.error) * other.run.bits_per_byte == pytest.approx(said.bits_per_byte)


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
