"""Numbers as people read them."""

import math

import pytest

from zhgpt.config.quantities import count_text, duration_text, loss_text, rate_text, share_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (12_345, "12.3k"),
        (99_960, "100k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (124_439_808, "124M"),
        (2_500_000_000, "2.50B"),
        (3e15, "3000T"),
        (math.inf, "inf"),
    ],
)
def test_a_count_keeps_three_digits(count: float, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7_620, "2 h 07 min"),
        (100_900, "1 d 04 h"),
        (math.nan, "nan"),
    ],
)
def test_a_duration_shows_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_shares_rates_and_losses() -> None:
    assert (share_text(0.4123), rate_text(6e-4), loss_text(4.12345)) == ("41.2 %", "6.00e-04", "4.1235")
