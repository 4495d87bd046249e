"""Student's t against published tables and values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhgpt.ablate.student import mean_interval, t_probability, t_quantile


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.3027),
        (0.975, 3, 3.1824),
        (0.975, 4, 2.7764),
        (0.975, 9, 2.2622),
        (0.975, 30, 2.0423),
        (0.975, 120, 1.9799),
        (0.95, 2, 2.9200),
        (0.995, 5, 4.0321),
        (0.9995, 10, 4.5869),
        (0.025, 4, -2.7764),
    ],
)
def test_quantiles_are_those_of_the_tables(probability: float, degrees: int, value: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(value, abs=5e-5)


@given(st.floats(-50, 50))
def test_one_degree_of_freedom_is_the_cauchy_distribution(value: float) -> None:
    assert t_probability(value, 1) == pytest.approx(0.5 + math.atan(value) / math.pi, abs=1e-12)


@given(st.floats(-50, 50))
def test_two_degrees_of_freedom_have_a_closed_form(value: float) -> None:
    assert t_probability(value, 2) == pytest.approx(0.5 + value / (2 * math.sqrt(2 + value**2)), abs=1e-12)


def test_an_interval_by_hand() -> None:
    # Mean 2, standard deviation 1, so 4.30265 x 1 / sqrt(3).
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (interval.count, interval.mean) == (3, 2.0)
    assert interval.half_width == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert interval.low == pytest.approx(2 - 2.48414, abs=1e-5)
    assert mean_interval([1.0, 2.0, 3.0], 0.9).half_width == pytest.approx(2.91999 / math.sqrt(3), abs=1e-5)


def test_one_value_has_no_interval() -> None:
    interval = mean_interval([5.0])
    assert (interval.mean, interval.half_width) == (5.0, None)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
