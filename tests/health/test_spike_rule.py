"""When a step counts as a spike."""

import math
import random

from zhgpt.health.spike_rule import FEWEST, LOSS_RISE, NORM_FACTOR, WINDOW, loss_limit, norm_limit, spike_in


def test_a_short_window_has_no_limit() -> None:
    assert loss_limit([5.0] * (FEWEST - 1)) is None
    assert norm_limit([1.0] * (FEWEST - 1)) is None
    assert spike_in("loss", 1e9, None) is None


def test_a_calm_run_is_allowed_half_a_nat_and_six_times_its_norm() -> None:
    assert loss_limit([5.0] * FEWEST) == 5.0 + LOSS_RISE
    assert norm_limit([2.0] * FEWEST) == 2.0 * NORM_FACTOR


def test_a_noisy_run_is_allowed_more() -> None:
    draw = random.Random(1)
    limit = loss_limit([5 + draw.gauss(0, 0.3) for _ in range(WINDOW)])
    assert limit is not None
    assert 5 + 4 * 0.3 < limit < 5 + 8 * 0.3


def test_a_spike_in_the_window_hardly_moves_the_limit_and_only_the_window_counts() -> None:
    calm = [5.0 + 0.01 * (step % 7) for step in range(WINDOW)]
    spiked = [*calm[:-1], 50.0]
    assert abs((loss_limit(spiked) or 0) - (loss_limit(calm) or 0)) < 0.02
    assert loss_limit([100.0] * 500 + calm) == loss_limit(calm)


def test_a_new_level_that_stays_becomes_the_usual_one() -> None:
    risen = [5.0] * (WINDOW // 2 - 1) + [8.0] * (WINDOW // 2 + 1)
    assert spike_in("loss", 8.0, loss_limit(risen)) is None


def test_what_is_no_number_is_a_spike_whatever_the_window() -> None:
    assert spike_in("loss", math.nan, None) == "loss nan"
    assert spike_in("gradient norm", math.inf, 6.0) == "gradient norm inf"
    assert spike_in("gradient norm", None, 6.0) is None
    assert spike_in("loss", 6.25, 5.5) == "loss 6.25, past the limit of 5.5"
