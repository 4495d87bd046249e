"""Light normalisation that is safe for Chinese: what is one text to a reader becomes one sequence of code points.

Line ends become ``\\n``; control characters other than ``\\n`` and ``\\t``, byte order marks, lone surrogates and
noncharacters go; the rest is composed (NFC). Full-width punctuation, U+3000, spaces, zero-width joiners and case stay.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
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
# Such characters, as far as they mean the same by themselves and beside any other of them: a text of them alone is in NFC.
# Marks that combine, jamo and compatibility forms are not here; nearly all Chinese text is.
_PLAIN = re.compile(
    "[\t\n -~\xa0-\u02ff\u0391-\u03a1\u03a3-\u03c9\u0400-\u0482\u2002-\u2027\u202a-\u20cf\u2100-\u2125\u2150-\u2328\u232b-\u2adb"
    "\u2e80-\u3029\u3030-\u3098\u309b-\ua66e\uac00-\ud7a3\uff00-\uffef\U0001f300-\U0001faff\U00020000-\U0002f7ff"
    "\U00030000-\U0003ffff]*"
)
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


def not_plain(texts: Sequence[str]) -> Iterator[int]:
    """Numbers of the texts that `normalize` may change; all others are normalised as they are.

    One pass over all of them, which takes a tenth of the time of a call for each where they are short.
    """
    joined = "".join(texts)
    at = _end_of_plain(joined, 0)
    if at == len(joined):
        return
    ends = list(accumulate(map(len, texts)))
    while at < len(joined):
        number = bisect_right(ends, at)
        yield number
        at = _end_of_plain(joined, ends[number])


def _end_of_plain(text: str, start: int) -> int:
    found = _PLAIN.match(text, start)
    assert found is not None, "even nothing matches"
    return found.end()


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
