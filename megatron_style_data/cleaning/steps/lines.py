"""Step ``lines``: what repeated and unfinished lines say about a page; repeats may be removed."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Positive, Share, StepSettings

_SENTENCE_ENDS = tuple("。！？…；：!?.;:”’』」）)】》")


class LinesSettings(StepSettings):
    """Settings of ``lines``."""

    remove_repeats: bool = Field(
        default=True, description="Remove a line of remove_from characters or more that came before."
    )
    remove_from: Positive = Field(default=20, description="Shorter lines (谢谢！, 答：, ---) may come again and stay.")
    maximum_repeated_line_share: Share | None = Field(
        default=0.4, description="Largest share of the characters in lines that came before in the text."
    )
    minimum_ended_line_share: Share | None = Field(
        default=None, description="Smallest share of the characters in lines that end as sentences do (。！？ …)."
    )


def prepare(settings: LinesSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        seen: set[str] = set()
        kept: list[str] = []
        characters = repeated = ended = 0
        changes = 0
        for line in text.split("\n"):
            bare = line.strip()
            characters += len(bare)
            ended += len(bare) if bare.endswith(_SENTENCE_ENDS) else 0
            if bare in seen and bare:
                repeated += len(bare)
                if settings.remove_repeats and len(bare) >= settings.remove_from:
                    changes += 1
                    continue
            seen.add(bare)
            kept.append(line)
        total = max(1, characters)
        measures = (
            Measure("repeated_line_share", repeated / total, high=settings.maximum_repeated_line_share),
            Measure("ended_line_share", ended / total, low=settings.minimum_ended_line_share),
        )
        return Outcome("\n".join(kept) if changes else text, measures, changes)

    return run
