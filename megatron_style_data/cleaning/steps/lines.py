"""Step ``lines``: what repeated and unfinished lines say about a page; a line said twice in a row is removed."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Positive, Share, StepSettings

_SENTENCE_ENDS = tuple("。！？…；：!?.;:”’』」）)】》")


_FENCES = ("```", "~~~")


class LinesSettings(StepSettings):
    """Settings of ``lines``."""

    remove: Literal["adjacent", "all", "none"] = Field(
        default="adjacent",
        description="Lines of remove_from characters or more to remove: those that say what the line before said, or "
        "all that came before (a statute may say a sentence in two chapters). Never in code between fences.",
    )
    remove_from: Positive = Field(default=10, description="Shorter lines (谢谢！, 答：, ---) may come again and stay.")
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
        characters = repeated = ended = changes = 0
        last, in_code = "", False
        for line in text.split("\n"):
            bare = line.strip()
            in_code ^= bare.startswith(_FENCES)
            if bare and not in_code:
                characters += len(bare)
                ended += len(bare) if bare.endswith(_SENTENCE_ENDS) else 0
                again = bare in seen
                repeated += len(bare) if again else 0
                seen.add(bare)
                if _removes(settings, bare, again, bare == last):
                    changes += 1
                    continue
                last = bare
            kept.append(line)
        total = max(1, characters)
        measures = (
            Measure("repeated_line_share", repeated / total, high=settings.maximum_repeated_line_share),
            Measure("ended_line_share", ended / total, low=settings.minimum_ended_line_share),
        )
        return Outcome("\n".join(kept) if changes else text, measures, changes)

    return run


def _removes(settings: LinesSettings, line: str, again: bool, adjacent: bool) -> bool:
    if len(line) < settings.remove_from or settings.remove == "none":
        return False
    return adjacent if settings.remove == "adjacent" else again
