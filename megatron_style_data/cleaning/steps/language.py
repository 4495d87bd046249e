"""Step ``language``: how much of a text is Chinese prose, by scripts and by the small words that sentences need."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from megatron_style_data.cleaning.code_points import (
    HAN,
    HANGUL,
    KANA,
    LATIN,
    OTHER_LETTER,
    class_counts,
    code_points,
)
from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Share, StepSettings

# Modern and classical, simplified and traditional. Japanese and lists of names or keywords have few of them.
FUNCTION_CHARACTERS = (
    "的了是在不有和这这他她我你们个就也上下为到说以要会可对能而着与其之所如于则及并或者把被将从向让给当由使但又还都很更最"
    "那些么什没无此自已曾未吗呢吧啊只却因若故乃矣焉乎哉也者何得地等"
    "這們個為說會對與於則並從讓給當還麼沒無"
)
# A Latin letter weighs as much as its share of a word (about 5 letters) of two Han characters.
_LATIN_WEIGHT = 0.4


class LanguageSettings(StepSettings):
    """Settings of ``language``."""

    minimum_chinese_share: Share | None = Field(
        default=0.5, description="Han characters among all letters, Latin words counted as two characters each."
    )
    maximum_kana_share: Share | None = Field(
        default=0.05, description="Kana among Han and kana: above it, it is Japanese."
    )
    minimum_function_share: Share | None = Field(
        default=0.03,
        description="的了是在不… among the Han characters; Chinese texts have 0.1 to 0.46, lists of names less.",
    )


@functools.cache
def _function_codes() -> NDArray[np.bool_]:
    table = np.zeros(0x10000, np.bool_)
    table[[ord(character) for character in FUNCTION_CHARACTERS]] = True
    return table


def prepare(settings: LanguageSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        counts = class_counts(text)
        han, kana, latin = counts[HAN], counts[KANA], counts[LATIN]
        letters = han + kana + counts[HANGUL] + counts[OTHER_LETTER] + _LATIN_WEIGHT * latin
        codes = code_points(text)
        function = int(np.count_nonzero(_function_codes()[codes[codes < 0x10000]]))
        measures = (
            Measure("chinese_share", han / max(1.0, letters), low=settings.minimum_chinese_share),
            Measure("kana_share", kana / max(1.0, han + kana), high=settings.maximum_kana_share),
            Measure("function_share", function / max(1.0, han), low=settings.minimum_function_share),
        )
        return Outcome(text, measures)

    return run
