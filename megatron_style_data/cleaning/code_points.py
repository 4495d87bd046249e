"""Classes of characters, looked up for a whole text at once: Han, Latin, digits, Chinese and other punctuation ..."""

import functools
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

SPACE, HAN, LATIN, DIGIT, PUNCTUATION, KANA, HANGUL, OTHER_LETTER, SYMBOL = range(9)
CLASSES = 9

_RANGES: tuple[tuple[int, int, int], ...] = (
    (0x3400, 0x4DBF, HAN),
    (0x4E00, 0x9FFF, HAN),
    (0xF900, 0xFAFF, HAN),
    (0x20000, 0x3FFFF, HAN),
    (0x3007, 0x3007, HAN),  # 〇
    (0x3005, 0x3005, HAN),  # 々
    (0x3040, 0x30FA, KANA),
    (0x30FC, 0x30FF, KANA),
    (0x31F0, 0x31FF, KANA),
    (0xFF66, 0xFF9F, KANA),
    (0x1100, 0x11FF, HANGUL),
    (0x3130, 0x318F, HANGUL),
    (0xAC00, 0xD7AF, HANGUL),
    (0x00C0, 0x024F, LATIN),
    (0xFF21, 0xFF3A, LATIN),
    (0xFF41, 0xFF5A, LATIN),
)
_BY_CATEGORY: Mapping[str, int] = MappingProxyType({"Z": SPACE, "L": OTHER_LETTER, "M": OTHER_LETTER, "P": PUNCTUATION})
# What writes Chinese sentences but has a symbol's category or is a symbol elsewhere.
_PUNCTUATION_TOO = "～￥·"


@functools.cache
def class_table() -> NDArray[np.uint8]:
    """(0x110000,) uint8: the class of every code point. Built once a process, in about 30 ms."""
    table = np.full(0x110000, SYMBOL, np.uint8)
    for code in range(0x10000):
        category = unicodedata.category(chr(code))
        table[code] = DIGIT if category == "Nd" else _BY_CATEGORY.get(category[0], SYMBOL)
    table[[ord("\n"), ord("\t"), ord("\r")]] = SPACE
    table[ord("A") : ord("Z") + 1] = LATIN
    table[ord("a") : ord("z") + 1] = LATIN
    for first, last, kind in _RANGES:
        table[first : last + 1] = kind
    table[[ord("×"), ord("÷")]] = SYMBOL  # inside the range of Latin letters
    table[[ord(character) for character in _PUNCTUATION_TOO]] = PUNCTUATION
    return table


def code_points(text: str) -> NDArray[np.uint32]:
    """(characters,) uint32: the code points of a text without lone surrogates."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


@functools.lru_cache(maxsize=1)  # two steps that follow each other ask for the same text
def class_counts(text: str) -> tuple[int, ...]:
    """How many characters of each of the ``CLASSES`` classes."""
    return tuple(np.bincount(class_table()[code_points(text)], minlength=CLASSES).tolist())


def letters_and_digits(text: str) -> NDArray[np.uint32]:
    """The code points without spaces, punctuation and symbols, ASCII letters in lower case."""
    codes = code_points(text.lower())
    kinds = class_table()[codes]
    kept: NDArray[np.uint32] = codes[(kinds != SPACE) & (kinds != PUNCTUATION) & (kinds != SYMBOL)]
    return kept


def letters(text: str) -> NDArray[np.uint32]:
    """The code points of the letters of all scripts, ASCII letters in lower case."""
    codes = code_points(text.lower())
    kinds = class_table()[codes]
    kept: NDArray[np.uint32] = codes[(kinds != SPACE) & (kinds != PUNCTUATION) & (kinds != SYMBOL) & (kinds != DIGIT)]
    return kept


def class_counts_reference(text: str) -> list[int]:
    """What ``class_counts`` gives, one character at a time."""
    table = class_table()
    counts = [0] * CLASSES
    for character in text:
        counts[table[ord(character)]] += 1
    return counts
