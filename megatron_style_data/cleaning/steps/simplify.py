"""Step ``simplify``: traditional characters to simplified ones (OpenCC), in texts that are traditional."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from megatron_style_data.cleaning.code_points import HAN, class_counts
from megatron_style_data.cleaning.measures import Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Share, StepSettings


class SimplifySettings(StepSettings):
    """Settings of ``simplify``."""

    conversion: Literal["t2s", "tw2s", "tw2sp", "hk2s"] = Field(
        default="t2s", description="OpenCC's conversion; tw2sp also turns 軟體 into 软件."
    )
    from_share: Share = Field(
        default=0.05,
        description="Texts of which fewer Han characters would change stay: they are simplified with names and "
        "quotations (乾隆, 瞭望) in them.",
    )


def prepare(settings: SimplifySettings) -> StepFunction:
    """The step with these settings."""
    import opencc

    convert = opencc.OpenCC(settings.conversion).convert

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        converted = convert(text)
        if converted == text:
            return Outcome(text)
        changed = sum(a != b for a, b in zip(text, converted, strict=False)) + abs(len(text) - len(converted))
        if changed < settings.from_share * class_counts(text)[HAN]:
            return Outcome(text)
        return Outcome(converted, (), changed)

    return run
