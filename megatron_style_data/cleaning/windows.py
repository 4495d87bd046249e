"""Hashes of all character n-grams of a text at once."""

import numpy as np
from numpy.typing import NDArray

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SHORT = 400  # characters


def window_hashes(codes: NDArray[np.uint32], length: int) -> NDArray[np.uint64]:
    """(characters - length + 1,) uint64: a hash of each window of ``length`` code points, at its first one.

    A polynomial modulo 2**64 over mixed code points, put together from windows of powers of two, so that 20 characters
    cost six passes and not twenty.
    """
    if len(codes) < length:
        return np.empty(0, np.uint64)
    level = codes.astype(np.uint64) * _MIX
    level ^= level >> np.uint64(29)
    level_length, factor = 1, _BASE
    hashes: NDArray[np.uint64] | None = None
    done, remaining = 0, length
    while remaining:
        if remaining & 1:
            hashes = level if hashes is None else _joined(hashes, level[done:], factor)
            done += level_length
        remaining >>= 1
        if remaining:
            level = _joined(level, level[level_length:], factor)
            level_length *= 2
            with np.errstate(over="ignore"):
                factor = factor * factor
    assert hashes is not None
    return hashes[: len(codes) - length + 1] ^ (hashes[: len(codes) - length + 1] >> np.uint64(31))


def _joined(first: NDArray[np.uint64], second: NDArray[np.uint64], factor: np.uint64) -> NDArray[np.uint64]:
    """The hash of each window of ``first`` followed by that of ``second``, which has the length ``factor`` stands for."""
    return first[: len(second)] * factor + second


def repeated_share(codes: NDArray[np.uint32], length: int) -> float:
    """Share of the characters that lie in an n-gram of ``length`` that came before in the text.

    The first occurrence of an n-gram counts as new; overlapping ones are counted once.
    """
    hashes = window_hashes(codes, length)
    if len(hashes) < 2:
        return 0.0
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return 0.0
    candidates = np.flatnonzero(np.isin(hashes, twice))
    _, firsts = np.unique(hashes[candidates], return_index=True)
    repeated = np.zeros(len(hashes), np.bool_)
    repeated[candidates] = True
    repeated[candidates[firsts]] = False
    return _covered(repeated, length) / len(codes)


def no_window_twice(codes: NDArray[np.uint32], length: int) -> bool:
    """Whether the text is so short that this is cheap to see, and no n-gram of ``length`` comes twice in it.

    Most short texts are like that, and a few passes over arrays cost as much on 60 characters as on 2,000.
    """
    if len(codes) > _SHORT:
        return False
    text = codes.tobytes().decode("utf-32-le")
    windows = {text[start : start + length] for start in range(len(text) - length + 1)}
    return len(windows) >= len(text) - length + 1


def repeated_share_reference(text: str, length: int) -> float:
    """What ``repeated_share`` gives, with strings in a set."""
    seen: set[str] = set()
    covered = [False] * len(text)
    for start in range(len(text) - length + 1):
        window = text[start : start + length]
        if window in seen:
            covered[start : start + length] = [True] * length
        seen.add(window)
    return sum(covered) / len(text) if text else 0.0


def most_frequent_share(codes: NDArray[np.uint32], length: int) -> float:
    """Share of the characters that lie in the most frequent n-gram of ``length``; 0 where none comes twice.

    Of n-grams that are equally frequent the one with the smallest hash counts.
    """
    hashes = window_hashes(codes, length)
    if not len(hashes):
        return 0.0
    values, counts = np.unique(hashes, return_counts=True)
    most = int(counts.argmax())
    if counts[most] < 2:
        return 0.0
    return _covered(hashes == values[most], length) / len(codes)


def _covered(starts: NDArray[np.bool_], length: int) -> int:
    """How many characters lie in a window of ``length`` that begins where ``starts`` says."""
    before = np.concatenate(([0], np.cumsum(starts)))  # windows that begin before a place
    ends = np.arange(1, len(starts) + length)
    last = before[np.minimum(ends, len(starts))]
    first = before[np.maximum(ends - length, 0)]
    return int(np.count_nonzero(last > first))
