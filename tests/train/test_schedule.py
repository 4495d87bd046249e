"""Learning-rate schedules as pure functions of the step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhgpt.config.schema import ScheduleSection
from zhgpt.train.schedule import SCHEDULES, learning_rate_at


def section(name: str, **values: float | str) -> ScheduleSection:
    return ScheduleSection.model_validate({"name": name, "warmup_steps": 10, **values})


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_rises_linearly_from_a_rate_above_zero_to_the_peak(name: str) -> None:
    rates = [learning_rate_at(step, 100, 1.0, section(name)) for step in range(10)]
    assert rates == pytest.approx([(step + 1) / 10 for step in range(10)])


@pytest.mark.parametrize("name", ["cosine", "wsd"])
def test_the_last_step_has_the_minimum_rate(name: str) -> None:
    assert learning_rate_at(99, 100, 2.0, section(name, minimum_ratio=0.1)) == pytest.approx(0.2)


def test_cosine_is_halfway_in_the_middle() -> None:
    assert learning_rate_at(55, 101, 1.0, section("cosine", minimum_ratio=0.0)) == pytest.approx(0.5)


def test_wsd_is_flat_until_its_decay_begins() -> None:
    rates = [
        learning_rate_at(step, 100, 1.0, section("wsd", decay_fraction=0.2, minimum_ratio=0.0)) for step in range(100)
    ]
    assert all(rate == 1.0 for rate in rates[10:79])
    assert rates[79] == pytest.approx(1.0)
    assert rates[89] == pytest.approx(0.5)
    assert rates[99] == 0.0


def test_constant_stays_at_the_peak() -> None:
    assert {learning_rate_at(step, 100, 3.0, section("constant")) for step in range(10, 100)} == {3.0}


def test_one_minus_sqrt_falls_fast_at_first_and_ends_where_the_straight_line_does() -> None:
    values = {"decay_fraction": 0.25, "minimum_ratio": 0.0, "decay_shape": "one_minus_sqrt"}
    rates = [learning_rate_at(step, 16, 1.0, section("wsd", **values)) for step in range(11, 16)]
    assert rates == pytest.approx([1.0, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5, 0.0])


def test_a_range_test_rises_by_the_same_factor_at_each_step() -> None:
    tested = ScheduleSection.model_validate({"name": "range_test", "warmup_steps": 0, "minimum_ratio": 1e-4})
    assert [learning_rate_at(step, 5, 2.0, tested) for step in range(5)] == pytest.approx([2e-4, 2e-3, 2e-2, 0.2, 2.0])


def test_the_steps_before_the_decay_are_those_at_the_peak() -> None:
    stable = section("wsd", decay_fraction=0.3)
    steps = stable.stable_steps(50)
    assert steps == 35
    rates = [learning_rate_at(step, 50, 1.0, stable) for step in range(50)]
    assert rates[34] == 1.0 > rates[35]
    assert section("cosine").stable_steps(50) is None


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 5000), st.integers(0, 4999), st.integers(0, 600))
def test_the_rate_stays_between_zero_and_the_peak(name: str, steps: int, step: int, warmup: int) -> None:
    rate = learning_rate_at(min(step, steps - 1), steps, 1.0, ScheduleSection(name=name, warmup_steps=warmup))
    assert 0 < rate <= 1.0
