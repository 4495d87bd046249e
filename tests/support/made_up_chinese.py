"""Texts of Chinese characters drawn at random, and texts that differ from them in known ways."""

import numpy as np


def chinese(draw: np.random.Generator, characters: int) -> str:
    """So many characters drawn at random."""
    return "".join(map(chr, draw.integers(0x4E00, 0x9FA0, characters).tolist()))


def punctuated(text: str, every: int) -> str:
    """The same text in clauses of so many characters."""
    return "，".join(text[first : first + every] for first in range(0, len(text), every)) + "。\n"


def with_another_end(text: str, draw: np.random.Generator, characters: int) -> str:
    """The text with its last characters replaced."""
    return text[: len(text) - characters] + chinese(draw, characters)
