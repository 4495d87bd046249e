"""Student's t distribution: its quantiles, and means of few values with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_MOST_TERMS = 500
_PRECISION = 1e-15
_TINY = 1e-300


@dataclass(frozen=True)
class Interval:
    """A mean with the half width of its interval; None where a single value says nothing about the spread."""

    count: int
    mean: float
    half_width: float | None

    @property
    def low(self) -> float:
        """Lower end; minus infinity where the spread is not known."""
        return -math.inf if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end; infinity where the spread is not known."""
        return math.inf if self.half_width is None else self.mean + self.half_width


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of a normal sample with the interval that covers the true mean with this probability.

    Args:
        values: at least one.
        confidence: the coverage.
    """
    count = len(values)
    if count < 2:
        return Interval(count, fmean(values), None)
    half_width = t_quantile((1 + confidence) / 2, count - 1) * stdev(values) / math.sqrt(count)
    return Interval(count, fmean(values), half_width)


def t_quantile(probability: float, degrees: int) -> float:
    """The value that a t variable stays below with this probability, by bisection of `t_probability`.

    Args:
        probability: between 0 and 1, both excluded.
        degrees: degrees of freedom, at least 1.
    """
    assert 0 < probability < 1, f"no quantile at {probability}"
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < probability:
        high *= 2
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def t_probability(value: float, degrees: int) -> float:
    """P(T <= value) with this many degrees of freedom (Abramowitz and Stegun 26.7.1 by the incomplete beta function)."""
    square = value * value
    # Both x and 1 - x are handed on: near zero one of them would lose its digits as the difference of the other to 1.
    inside = _incomplete_beta(0.5, degrees / 2, square / (degrees + square), degrees / (degrees + square))
    return 0.5 + math.copysign(inside, value) / 2


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b) with rest = 1 - x, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below this
        return 1 - _incomplete_beta(b, a, rest, x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest))
    return front * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))) by Lentz's method."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            return value
    raise AssertionError(f"the continued fraction of I_{x}({a}, {b}) does not converge")


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
