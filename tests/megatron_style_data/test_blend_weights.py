"""Weights from what a person gives: exactly what was written."""

from fractions import Fraction

import pytest

from megatron_style_data.blend_weights import exact, weights_at_temperature, weights_from_epochs
from megatron_style_data.errors import SettingError


def test_a_decimal_number_is_taken_as_written() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert exact(3) == 3


def test_epochs_weigh_by_the_tokens_they_read() -> None:
    assert weights_from_epochs([1000, 300], [1, 2.5]) == (1000, 750)


def test_temperature_one_takes_sources_by_their_size() -> None:
    assert weights_at_temperature([10**12 + 1, 7], 1) == (10**12 + 1, 7)


def test_a_higher_temperature_lifts_small_sources() -> None:
    assert weights_at_temperature([10_000, 100], 2) == (1, Fraction(1, 10))
    large, small = weights_at_temperature([10_000, 100], 100)
    assert small / large > Fraction(95, 100)


def test_a_temperature_of_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="temperature 0: expected a number above 0"):
        weights_at_temperature([1, 2], 0)
