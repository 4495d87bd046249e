"""Step ``repetition``: text that says the same again and again, by character n-grams.

The filters of Gopher (Rae et al. 2021, table A1) count words. Chinese has none between spaces; most words have
one or two characters, and the formulas of laws, forms and minutes repeat more than English does, so lengths and bounds differ.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.code_points import letters
from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Positive, Share, StepSettings
from megatron_style_data.cleaning.windows import most_frequent_share, no_window_twice, repeated_share


class RepetitionSettings(StepSettings):
    """Settings of ``repetition``. Only letters count: no digits, punctuation, symbols, spaces."""

    window_characters: Positive = Field(
        default=5000,
        description="A longer text is measured in stretches of this length: long texts repeat by nature.",
    )
    maximum_top_4gram_share: Share | None = Field(default=0.25, description="Characters in the most frequent 4-gram.")
    maximum_repeated_10gram_share: Share | None = Field(
        default=0.7, description="Characters in 10-grams that came before."
    )
    maximum_repeated_20gram_share: Share | None = Field(
        default=0.6, description="Characters in 20-grams that came before."
    )


def prepare(settings: RepetitionSettings) -> StepFunction:
    """The step with these settings."""
    size = settings.window_characters

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        codes = letters(text)
        if no_window_twice(codes, 4):  # then no longer one comes twice
            return Outcome(text, _measures(settings, 0.0, 0.0, 0.0))
        stretches = max(1, round(len(codes) / size))
        edges = [len(codes) * number // stretches for number in range(stretches + 1)]
        parts = [codes[edges[number] : edges[number + 1]] for number in range(stretches)]
        # Stretches have the same length, so the mean is the share of all characters.
        top4 = sum(most_frequent_share(part, 4) for part in parts) / stretches
        again10 = sum(repeated_share(part, 10) for part in parts) / stretches
        again20 = sum(repeated_share(part, 20) for part in parts) / stretches
        return Outcome(text, _measures(settings, top4, again10, again20))

    return run


def _measures(settings: RepetitionSettings, top4: float, again10: float, again20: float) -> tuple[Measure, ...]:
    return (
        Measure("top_4gram_share", top4, high=settings.maximum_top_4gram_share),
        Measure("repeated_10gram_share", again10, high=settings.maximum_repeated_10gram_share),
        Measure("repeated_20gram_share", again20, high=settings.maximum_repeated_20gram_share),
    )
