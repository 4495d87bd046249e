"""Step ``width``: full-width letters, digits and spaces to half-width by choice; Chinese punctuation is never touched."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from megatron_style_data.cleaning.measures import Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import StepSettings

_FULL_WIDTH_OFFSET = 0xFEE0  # Ａ (U+FF21) - A (U+0041)


class WidthSettings(StepSettings):
    """Settings of ``width``."""

    letters: bool = Field(default=True, description="Ａ → A, ａ → a.")
    digits: bool = Field(default=True, description="１ → 1.")
    spaces: bool = Field(default=True, description="U+3000 and no-break spaces become an ordinary space.")
    symbols: bool = Field(
        default=False, description="＋－＝＜＞／＼＃＆＊＠＄％＾＿｜ become ASCII; punctuation marks stay."
    )
    invisible: bool = Field(
        default=True, description="Zero-width spaces, soft hyphens and marks of direction are removed."
    )


def prepare(settings: WidthSettings) -> StepFunction:
    """The step with these settings."""
    table: dict[int, str] = {}
    full_width = (
        ((settings.letters, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")),
        (settings.digits, "0123456789"),
        (settings.symbols, "+-=<>/\\#&*@$%^_|"),
    )
    for wanted, characters in full_width:
        if wanted:
            table.update({ord(character) + _FULL_WIDTH_OFFSET: character for character in characters})
    if settings.spaces:
        table.update(dict.fromkeys([0x3000, 0x00A0, 0x2002, 0x2003, 0x2009, 0x202F], " "))
    if settings.invisible:
        table.update(dict.fromkeys([0x200B, 0x2060, 0x00AD, 0x200E, 0x200F, *range(0x202A, 0x202F)], ""))
    found = re.compile("[" + "".join(map(re.escape, map(chr, table))) + "]") if table else None

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        changes = len(found.findall(text)) if found else 0
        return Outcome(text.translate(table) if changes else text, (), changes)

    return run
