"""Step ``characters``: shares of classes of characters, by which tables, code, menus and other scripts stand out."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.code_points import DIGIT, HAN, LATIN, PUNCTUATION, SPACE, SYMBOL, class_counts
from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Share, StepSettings


class CharactersSettings(StepSettings):
    """Settings of ``characters``. All shares are of the characters without spaces."""

    minimum_cjk_share: Share | None = Field(default=0.3, description="Han characters.")
    maximum_digit_share: Share | None = Field(default=0.3, description="Digits.")
    maximum_symbol_share: Share | None = Field(
        default=0.25, description="Symbols: neither letters, digits nor punctuation."
    )
    maximum_latin_share: Share | None = Field(default=0.6, description="Latin letters.")
    minimum_punctuation_share: Share | None = Field(
        default=None, description="Punctuation; Chinese texts have 0.06 to 0.16, lists of keywords nearly none."
    )
    maximum_punctuation_share: Share | None = Field(default=0.35, description="Punctuation.")


def prepare(settings: CharactersSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        counts = class_counts(text)
        total = max(1, sum(counts) - counts[SPACE])
        share = [count / total for count in counts]
        low, high = settings.minimum_punctuation_share, settings.maximum_punctuation_share
        measures = (
            Measure("cjk_share", share[HAN], low=settings.minimum_cjk_share),
            Measure("digit_share", share[DIGIT], high=settings.maximum_digit_share),
            Measure("symbol_share", share[SYMBOL], high=settings.maximum_symbol_share),
            Measure("latin_share", share[LATIN], high=settings.maximum_latin_share),
            Measure("punctuation_share", share[PUNCTUATION], low=low, high=high),
        )
        return Outcome(text, measures)

    return run
