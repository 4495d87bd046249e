"""Light normalisation that is safe for Chinese: what is one text to a reader becomes one sequence of code points.

Line ends become ``\\n``; control characters other than ``\\n`` and ``\\t``, byte order marks, lone surrogates and
noncharacters go; the rest is composed (NFC). Full-width punctuation, U+3000, spaces, zero-width joiners and case stay.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# What each count counts; the unit is characters except where it says texts.
CHANGES: Mapping[str, str] = MappingProxyType(
    {
        "line_ends": "line ends written in another way than \\n",
        "surrogate_pairs": "surrogate pairs joined to the character they mean",
        "surrogates": "lone surrogates removed",
        "byte_order_marks": "byte order marks (zero-width no-break spaces) removed",
        "control_characters": "control characters and noncharacters removed",
        "recomposed_texts": "texts that were not in NFC",
    }
)

# Nearly every text is clean, and one pass over an allowed set is 20 times faster than a search for what is not allowed.
_CLEAN = re.compile("[\t\n -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufdcf\ufdf0-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*")
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_SURROGATE_PAIRS = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = re.compile("\ufeff")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Normalized:
    """A normalised text.

    Attributes:
        text: The text; can be encoded as UTF-8.
        changes: How often each of ``CHANGES`` was needed, without those that were not.
    """

    text: str
    changes: Mapping[str, int] = field(default_factory=dict)


def normalize(text: str) -> Normalized:
    """Normalises one text. Pure and idempotent: a second pass changes nothing."""
    changes: dict[str, int] = {}
    if not _CLEAN.fullmatch(text):
        text = _replace_characters(text, changes)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
        changes["recomposed_texts"] = 1
    return Normalized(text, changes)


def _replace_characters(text: str, changes: dict[str, int]) -> str:
    # The order matters: pairs before lone surrogates, line ends before the control characters they are written with.
    steps = (
        ("surrogate_pairs", _SURROGATE_PAIRS, _joined),
        ("surrogates", _SURROGATES, ""),
        ("line_ends", _LINE_ENDS, "\n"),
        ("byte_order_marks", _BYTE_ORDER_MARK, ""),
        ("control_characters", _CONTROLS, ""),
    )
    for name, pattern, replacement in steps:
        text, count = pattern.subn(replacement, text)
        if count:
            changes[name] = count
    return text


def _joined(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16", "surrogatepass").decode("utf-16")
