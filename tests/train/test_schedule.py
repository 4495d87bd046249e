"""Learning-rate schedules as pure functions of the step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhgpt.config.schema import ScheduleSection
from zhgpt.train.schedule import SCHEDULES, learning_rate_at


def section(name: str, **values: float) -> ScheduleSection:
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


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 5000), st.integers(0, 4999), st.integers(0, 600))
def test_the_rate_stays_between_zero_and_the_peak(name: str, steps: int, step: int, warmup: int) -> None:
    rate = learning_rate_at(min(step, steps - 1), steps, 1.0, ScheduleSection(name=name, warmup_steps=warmup))
    assert 0 < rate <= 1.0
