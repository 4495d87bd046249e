"""How many bytes of the text each token of a vocabulary stands for, where its kind tells."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.protocol import Tokenizer

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_PROBES = ("天下大势，分久必合。", "The 龘 🀄 has 12 tiles.\n")


def token_byte_counts(tokenizer: Tokenizer) -> NDArray[np.int32] | None:
    """(vocab_size,) UTF-8 bytes of each token in a text; None for a tokenizer whose tokens do not add up to the text.

    A byte-level piece has a character a byte; a sentencepiece piece is text, or one byte as ``<0xE6>``. Which it is shows
    in texts whose length is known. A tokenizer that changes texts before it cuts them has no such numbers.
    """
    pieces = [tokenizer.piece(number) or "" for number in range(tokenizer.vocab_size)]
    for count in (_byte_level, _text_level):
        counts = np.array([count(piece) for piece in pieces], np.int32)
        if all(_adds_up(tokenizer, counts, probe) for probe in _PROBES):
            return counts
    return None


def split_characters(text: str, ids: Sequence[int], counts: NDArray[np.int32]) -> tuple[int, int]:
    """How many Han characters a text has, and how many of them lie in more than one token.

    Args:
        text: The text.
        ids: Its tokens.
        counts: Of ``token_byte_counts``.
    """
    content = np.frombuffer(text.encode("utf-8"), np.uint8)
    begins = (content & 0xC0) != 0x80
    character_of = np.cumsum(begins) - 1
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    han = ((points >= 0x4E00) & (points <= 0x9FFF)) | ((points >= 0x3400) & (points <= 0x4DBF)) | (points >= 0x20000)
    borders = np.cumsum(counts[np.asarray(ids, np.int64)])[:-1]
    inside = borders[borders < len(content)]
    cut = np.unique(character_of[inside[~begins[inside]]])
    return int(han.sum()), int(han[cut].sum())


def _byte_level(piece: str) -> int:
    return len(piece)


def _text_level(piece: str) -> int:
    return 1 if _BYTE_PIECE.fullmatch(piece) else len(piece.replace("▁", " ").encode("utf-8", "surrogatepass"))


def _adds_up(tokenizer: Tokenizer, counts: NDArray[np.int32], probe: str) -> bool:
    return int(counts[tokenizer.encode_batch([probe])[0]].sum()) == len(probe.encode("utf-8"))
