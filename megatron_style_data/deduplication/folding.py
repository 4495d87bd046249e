"""The characters by which texts are compared: letters, digits and signs count, how they are set does not.

A text is folded character by character: compatibility forms become the plain one where that is one character (NFKC:
Ａ becomes A, ２ becomes 2, 金 U+F90A becomes 金 U+91D1), capitals become small, and punctuation, spaces, line ends,
controls, zero-width characters, variation selectors and ～ are left out. 「床前明月光，疑是地上霜。」 and
「床前明月光 疑是地上霜」 are the same ten characters. Variants (疎/疏) and simplified characters stay what they are.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

CODE_POINTS = 0x110000
_LEFT_OUT_CATEGORIES = ("P", "Z", "Cc", "Cf", "Cs")
_WAVE = "~"  # stands for ～ after NFKC: a sign by category, but set like a mark at the end of a sentence
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
# Planes 0 to 3 hold the characters that a table of Unicode says something about. Of the rest, the tags and variation
# selectors of plane 14 are left out and private characters stay.
_FIRST_PLANES = 0x40000
_PLANE_14 = slice(0xE0000, 0xF0000)


@cache
def folding_table() -> NDArray[np.uint32]:
    """What each code point becomes: (CODE_POINTS,) uint32, 0 for those left out. Made once a process, in 0.2 s."""
    table = np.arange(CODE_POINTS, dtype=np.uint32)
    table[:_FIRST_PLANES] = [_folded(chr(code)) for code in range(_FIRST_PLANES)]
    table[_PLANE_14] = 0
    table.setflags(write=False)
    return table


def fold(text: str) -> str:
    """The characters of ``text`` that are compared; the reference beside ``folding_table``."""
    return "".join(chr(code) for code in map(_folded, text) if code)


def _folded(character: str) -> int:
    for change in (lambda text: unicodedata.normalize("NFKC", text), str.lower):
        changed = change(character)
        if len(changed) == 1:  # ½, ㈱ and İ would become several characters, and stay
            character = changed
    left_out = unicodedata.category(character).startswith(_LEFT_OUT_CATEGORIES)
    return 0 if left_out or character == _WAVE or ord(character) in _VARIATION_SELECTORS else ord(character)
