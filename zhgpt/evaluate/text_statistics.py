"""Numbers that show a degenerate text: how much it repeats itself, and how much of it is punctuation."""

import unicodedata
from collections import Counter


def text_statistics(text: str) -> dict[str, float]:
    """Return the statistics of one generated text, counted over characters without white space.

    ``distinct_1``, ``distinct_2``, ``distinct_3``: different n-grams / all n-grams (Li et al. 2016, arXiv 1510.03055);
    1 for a text too short for one. ``repeated_4gram_share``: the share of 4-grams that occur more than once.
    ``punctuation_share``: the share of punctuation, Chinese and ASCII, quotation marks included. A healthy Chinese text
    has about a tenth to a fifth of punctuation; a text of nothing but quotation marks has 1.
    """
    characters = "".join(text.split())
    return {
        **{f"distinct_{n}": _distinct_share(characters, n) for n in (1, 2, 3)},
        "repeated_4gram_share": _repeated_share(characters, 4),
        "punctuation_share": punctuation_share(characters),
    }


def punctuation_share(characters: str) -> float:
    """Return the share of characters in Unicode's punctuation categories (P*); 0 for no characters."""
    if not characters:
        return 0.0
    return sum(unicodedata.category(character).startswith("P") for character in characters) / len(characters)


def _distinct_share(characters: str, n: int) -> float:
    grams = _ngrams(characters, n)
    return len(set(grams)) / len(grams) if grams else 1.0


def _repeated_share(characters: str, n: int) -> float:
    counts = Counter(_ngrams(characters, n))
    repeated = sum(count for count in counts.values() if count > 1)
    return repeated / counts.total() if counts else 0.0


def _ngrams(characters: str, n: int) -> list[str]:
    return [characters[place : place + n] for place in range(len(characters) - n + 1)]
