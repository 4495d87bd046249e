"""Weights of a blend's sources as exact fractions: given, from epochs, or from sizes at a temperature."""

from collections.abc import Sequence
from fractions import Fraction

from megatron_style_data.errors import SettingError

# Digits a power is rounded to, so that machines whose pow differs in the last bit take the same samples.
_DIGITS = 9


def exact(number: float) -> Fraction:
    """The fraction that a person wrote as `number`: 0.1 is 1/10, not the nearest float."""
    return Fraction(str(number))


def weights_from_epochs(tokens: Sequence[int], epochs: Sequence[float]) -> tuple[Fraction, ...]:
    """In proportion to how many tokens are read when each source is read its number of times.

    Args:
        tokens: Of each source, an epoch.
        epochs: Of each source; only their ratios decide, a run's length is its own setting.
    """
    return tuple(exact(times) * size for times, size in zip(epochs, tokens, strict=True))


def weights_at_temperature(tokens: Sequence[int], temperature: float) -> tuple[Fraction, ...]:
    """In proportion to tokens ** (1 / temperature): 1 as they are, larger lifts small sources (Conneau et al. 2020).

    Raises:
        SettingError: The temperature is not above 0.
    """
    if not temperature > 0:
        raise SettingError(f"temperature {temperature}: expected a number above 0; 1 takes sources by their size.")
    if temperature == 1:
        return tuple(Fraction(size) for size in tokens)
    largest = max(tokens)
    return tuple(Fraction(f"{(size / largest) ** (1 / temperature):.{_DIGITS}g}") for size in tokens)
