"""How much of what a model writes stands word for word in the text that it was trained on.

A window of 30 characters in a row is long enough that Chinese prose seldom repeats one by chance. The windows of the
samples are few and the training text is long, so the windows are hashed and the text is read once, in blocks: a polynomial
hash of every 30 code points modulo 2**64, all of a block at once. What has a hash in common is then compared.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.samples import open_split
from megatron_style_data.tokenizer.protocol import Tokenizer

WINDOW_CHARACTERS = 30
_BLOCK_TOKENS = 1 << 18
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)


def windows_of(texts: Iterable[str], length: int = WINDOW_CHARACTERS) -> list[str]:
    """Every run of ``length`` characters of every text; a shorter text has none."""
    return [text[start : start + length] for text in texts for start in range(len(text) - length + 1)]


def copied_share(texts: Iterable[str], passages: Iterable[str], length: int = WINDOW_CHARACTERS) -> float | None:
    """The share of the texts' windows that stand in one of the passages; None where no text has a window.

    Args:
        texts: what was generated.
        passages: what it is searched in, each by itself.
        length: characters of a window.
    """
    windows = windows_of(texts, length)
    if not windows:
        return None
    by_hash: dict[int, set[str]] = {}
    for window in set(windows):
        by_hash.setdefault(int(_hashes(window, length)[0]), set()).add(window)
    wanted = np.array(sorted(by_hash), np.uint64)
    found: set[str] = set()
    for passage in passages:
        hashes = _hashes(passage, length)
        places = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        for place in np.flatnonzero(wanted[places] == hashes).tolist():
            window = passage[place : place + length]
            if window in by_hash[int(hashes[place])]:
                found.add(window)
    return sum(window in found for window in windows) / len(windows)


def training_passages(prefixes: Sequence[str], tokenizer: Tokenizer, most_tokens: int) -> Iterator[str]:
    """The text of the train splits in blocks, at most about ``most_tokens`` in all, from places spread evenly over each.

    A window across the border of two blocks is not seen, one in 2**18 tokens.

    Args:
        prefixes: of the datasets.
        tokenizer: theirs.
        most_tokens: shared out over the datasets by size.
    """
    opened = [open_split(prefix, "train") for prefix in prefixes]
    whole = sum(split.tokens for _, _, split in opened)
    for dataset, _, split in opened:
        first = split.first_token
        blocks = -(-split.tokens // _BLOCK_TOKENS)
        wanted = max(1, min(blocks, round(blocks * most_tokens / whole)))
        for number in range(wanted):
            start = number * blocks // wanted * _BLOCK_TOKENS
            tokens = dataset.tokens[first + start : first + min(start + _BLOCK_TOKENS, split.tokens)]
            yield tokenizer.decode(tokens.tolist())


def _hashes(text: str, length: int) -> NDArray[np.uint64]:
    """The hash of the window that begins at each character: sum of c[i+j] * base**j, modulo 2**64 as uint64 wraps."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(points) < length:
        return np.empty(0, np.uint64)
    sums = np.concatenate(([np.uint64(0)], np.cumsum(points * _powers(_BASE, len(points)), dtype=np.uint64)))
    return (sums[length:] - sums[:-length]) * _powers(_INVERSE, len(points))[: len(points) - length + 1]


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)
