"""Step ``length``: texts that are too short to learn from, or so long that something went wrong."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Count, StepSettings


class LengthSettings(StepSettings):
    """Settings of ``length``."""

    minimum_characters: Count | None = Field(default=50, description="Fewest characters without spaces and line ends.")
    maximum_characters: Count | None = Field(default=5_000_000, description="Most characters.")


def prepare(settings: LengthSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        characters = len("".join(text.split()))
        low, high = settings.minimum_characters, settings.maximum_characters
        return Outcome(text, (Measure("characters", characters, low=low, high=high),))

    return run
