"""What published fits give where the settings leave it open."""

from collections.abc import Callable

import pytest

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.derived import derivation_notes, peak_learning_rate, resolve_schedule
from zhgpt.config.fits import HIGHEST_RATE, batch_size_for, batch_tokens_for, is_extrapolated, learning_rate_for
from zhgpt.config.schema import RunConfig
from zhgpt.errors import SettingError

LoadText = Callable[..., RunConfig]


def test_the_rate_falls_with_size_and_rises_with_tokens() -> None:
    assert learning_rate_for(10**9, 10**11) == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307, rel=0.02)
    assert learning_rate_for(10**8, 10**10) > learning_rate_for(10**9, 10**10)
    assert learning_rate_for(10**8, 10**10) > learning_rate_for(10**8, 10**9)
    assert learning_rate_for(10**4, 10**8) == HIGHEST_RATE


def test_the_batch_is_the_power_of_two_nearest_to_the_fit_at_the_length_that_it_gives() -> None:
    for steps in (500, 5_000, 50_000):
        size = batch_size_for(steps, 1024)
        assert size & (size - 1) == 0
        fitted = batch_tokens_for(steps * size * 1024) / 1024
        assert 2**-0.5 < fitted / size < 2**0.5
    assert batch_size_for(2, 1024) == 1


def test_outside_the_sizes_of_the_fit_it_is_extrapolated() -> None:
    assert is_extrapolated(10**7, 10**10)
    assert is_extrapolated(10**8, 10**9)
    assert not is_extrapolated(10**8, 10**10)


def test_settings_that_are_left_open_are_filled_in_and_said(load_text: LoadText) -> None:
    config = load_text("train.global_batch_size=null", "train.steps=20000", "train.micro_batch_size=8")
    plan = plan_batch(config, 1)
    assert plan.global_batch_size == batch_size_for(20_000, 128)
    rate = peak_learning_rate(config, plan, 85_000_000)
    assert rate == learning_rate_for(85_000_000, plan.total_tokens)
    assert resolve_schedule(config, plan, 85_000_000).optim.peak == rate
    batch, learning_rate = derivation_notes(config, plan, 85_000_000)
    assert batch.startswith(
        f"global batch left out: {plan.global_batch_size} sequences = {plan.tokens_per_step:,} tokens"
    )
    assert learning_rate.startswith(f"learning rate auto: {rate:g} = 1.79 × 85.0M parameters without tables^-0.713")
    assert "fitted on" not in learning_rate
    assert "extrapolated: fitted on about 60M to 1B parameters" in derivation_notes(config, plan, 10**6)[1]


def test_the_same_batch_is_chosen_for_any_number_of_ranks_or_refused(load_text: LoadText) -> None:
    config = load_text("train.global_batch_size=null", "train.steps=20000", "train.micro_batch_size=8")
    assert plan_batch(config, 1).global_batch_size == plan_batch(config, 16).global_batch_size
    with pytest.raises(
        SettingError, match=r"for 10 steps is not a multiple of micro_batch_size 4 × world size 2 = 8; lower"
    ):
        plan_batch(load_text("train.global_batch_size=null", "train.steps=10"), 2)


def test_a_rate_that_is_given_is_kept(load_text: LoadText) -> None:
    config = load_text("optim.learning_rate=3e-4")
    assert peak_learning_rate(config, plan_batch(config, 1), 10**6) == 3e-4
    assert derivation_notes(config, plan_batch(config, 1), 10**6) == []
