"""Step ``encoding``: undoes wrong decodings (UTF-8 read as Latin-1 or GBK), drops what cannot be undone."""

import re
from collections.abc import Mapping
from typing import Any

import ftfy
from pydantic import Field

from megatron_style_data.cleaning.measures import Measure, Outcome, StepFunction
from megatron_style_data.cleaning.steps.settings import Share, StepSettings

# ftfy's defaults turn “” into "", ， into , and so on: only its repair of encodings is used, and nothing else of it.
_FTFY = ftfy.TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    fix_encoding=True,
    restore_byte_a0=True,
    replace_lossy_sequences=True,
    decode_inconsistent_utf8=True,
    fix_c1_controls=True,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
    explain=False,
)
# The two or more bytes of one Chinese character as Latin-1 or Windows-1252 show them; ftfy judges what is behind it.
_LOOKS_LIKE_LATIN = re.compile("[\xc3-\xe9][\x80-\xff\u0152-\u0178\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{2}")
# What frequent characters and punctuation become when their UTF-8 bytes are read as GBK.
_LOOKS_LIKE_GBK = re.compile("锛|銆|鐨|鏄|涓€|鍦ㄥ|杩欎|鎴戜|浠栦")
_LOST = re.compile("\ufffd|锟斤拷|锟斤|烫烫烫+|屯屯屯+")
_HAN = re.compile("[\u4e00-\u9fff]")


class EncodingSettings(StepSettings):
    """Settings of ``encoding``."""

    repair: bool = Field(
        default=True, description="Undo UTF-8 that was read as Latin-1, Windows-1252 or GBK, line by line."
    )
    maximum_lost_share: Share | None = Field(
        default=0.005, description="Largest share of characters that are lost for good: U+FFFD and 锟斤拷."
    )


def prepare(settings: EncodingSettings) -> StepFunction:
    """The step with these settings."""

    def run(text: str, fields: Mapping[str, Any]) -> Outcome:
        repaired, lines = repair_encoding(text) if settings.repair else (text, 0)
        lost = sum(len(found) for found in _LOST.findall(repaired))
        measure = Measure("lost_share", lost / max(1, len(repaired)), high=settings.maximum_lost_share)
        return Outcome(repaired, (measure,), lines)

    return run


def repair_encoding(text: str) -> tuple[str, int]:
    """The text with wrong decodings undone, and the number of lines that changed."""
    if not _LOOKS_LIKE_LATIN.search(text) and not _LOOKS_LIKE_GBK.search(text):
        return text, 0
    lines = text.split("\n")
    repaired = [_repair_line(line) for line in lines]
    changed = sum(before != after for before, after in zip(lines, repaired, strict=True))
    return ("\n".join(repaired), changed) if changed else (text, 0)


def _repair_line(line: str) -> str:
    if _LOOKS_LIKE_LATIN.search(line):
        fixed = ftfy.fix_encoding(line, _FTFY)
        before, after = (len(_HAN.findall(text)) for text in (line, fixed))
        # A Chinese sentence may show what a wrong decoding looks like; a real one hides Chinese.
        line = fixed if after > before or before == 0 else line
    if len(_LOOKS_LIKE_GBK.findall(line)) >= 2:
        return _from_gbk(line)
    return line


def _from_gbk(line: str) -> str:
    """The line whose UTF-8 bytes GBK shows as ``line``; ``line`` itself where there is none.

    The bytes of real Chinese in GBK are hardly ever UTF-8, so a whole line that decodes is proof enough. GBK loses the
    last byte of some characters (it shows as ``?``): such a line stays as it is.
    """
    try:
        decoded = line.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return line
    return decoded if _HAN.search(decoded) else line
