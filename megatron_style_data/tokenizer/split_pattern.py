"""Where a text may be cut before merging: the regular expression, and the classes of characters that it speaks of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Branch by branch: English endings after an apostrophe; a run of letters with at most one space or punctuation mark in
# front; one digit; a run of other signs with the line ends after it; line ends with the space before them; spaces,
# leaving the last one to the word that follows. It cuts exactly like Qwen2's, so that llama.cpp's "qwen2"
# pre-tokenizer reads the same tokens (docs/tokenizer.md).
SPLIT_PATTERN = "|".join(
    (
        r"(?i:'(?:[sdmt]|ll|re|ve))",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

# The same cuts in Qwen2's own spelling: libraries with a hand-written scanner know it by that.
QWEN2_SPELLING = SPLIT_PATTERN.replace("'(?:[sdmt]|ll|re|ve)", "'s|'t|'re|'ve|'m|'ll|'d")

OTHER, LETTER, NUMBER, SPACE, LINE_END, UNKNOWN = range(6)
_CLASSES: tuple[tuple[int, str], ...] = ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s"), (LINE_END, r"[\r\n]"))


class CharacterClasses:
    """The class of each code point as HF tokenizers' own engine has it, looked up for those that texts contain.

    Asking the engine and not a table of ours keeps the two at one version of Unicode.
    """

    def __init__(self) -> None:
        self.table: NDArray[np.uint8] = np.full(0x110000, UNKNOWN, np.uint8)

    def learn(self, points: NDArray[np.uint32]) -> None:
        """Makes sure that ``table`` has the class of each of these code points."""
        unknown = np.unique(points[self.table[points] == UNKNOWN])
        if len(unknown):
            self.table[unknown] = _classes_of([chr(point) for point in unknown])


def _classes_of(characters: Sequence[str]) -> NDArray[np.uint8]:
    from tokenizers import Regex, pre_tokenizers  # here, because whoever wants the pattern alone does without

    text = "".join(characters)
    found = np.full(len(text), OTHER, np.uint8)
    for number, pattern in _CLASSES:  # a later class is part of an earlier one or apart from it
        of_it = np.ones(len(text), np.bool_)
        rest = pre_tokenizers.Split(Regex(pattern), behavior="removed").pre_tokenize_str(text)
        for _, (start, end) in rest:
            of_it[start:end] = False
        found[of_it] = number
    return found
