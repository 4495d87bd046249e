"""The signature step and the comparison of shingle sets, compiled by numba when they are first used.

Nothing is cached on the disk: compiling takes about a second a process.
"""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from megatron_style_data.deduplication.folding import folding_table
from megatron_style_data.deduplication.minhash import FoldedTexts, code_points, constants_for
from megatron_style_data.deduplication.settings import DuplicateSettings

_BLOCK = 2048  # shingle hashes that stay in the first-level cache while all permutations go over them
_LANES = 64


class FastMinHash:
    """Gives what ``PlainMinHash`` gives, about fifty times as fast."""

    def __init__(self, settings: DuplicateSettings) -> None:
        self._constants = constants_for(settings)
        self._table = folding_table()

    def fold(self, texts: Sequence[str]) -> FoldedTexts:
        """Folds texts."""
        codes, starts = code_points(texts)
        folded = np.empty(len(codes), np.uint32)
        ends = np.zeros(len(starts), np.int64)
        _fold(codes, starts, self._table, folded, ends)
        return FoldedTexts(folded[: ends[-1]], ends)

    def signatures(self, folded: FoldedTexts) -> NDArray[np.uint32]:
        """Signatures, (texts, permutations) uint32."""
        constants = self._constants
        result = np.full((len(folded), len(constants.factors)), np.uint32(0xFFFFFFFF))
        _minima(folded.characters, folded.starts, constants.places, constants.factors, constants.summands, result)
        return result


# numba widens products of uint32 to 64 bits; each np.uint32(...) below keeps the arithmetic modulo 2^32, which also lets
# LLVM use vectors of 32-bit lanes.


@numba.njit(nogil=True)
def _fold(codes, starts, table, folded, ends):  # type: ignore[no-untyped-def]
    kept = 0
    for text in range(len(starts) - 1):
        for place in range(starts[text], starts[text + 1]):
            character = table[codes[place]]
            folded[kept] = character
            kept += character != 0
        ends[text + 1] = kept


@numba.njit(nogil=True)
def _hash_shingles(characters, first, count, places, hashes):  # type: ignore[no-untyped-def]
    """Hashes of the ``count`` shingles from ``first`` on."""
    for i in range(count):
        hashes[i] = np.uint32(characters[first + i] * places[0])
    for place in range(1, len(places)):
        factor = places[place]
        for i in range(count):
            hashes[i] += np.uint32(characters[first + i + place] * factor)
    for i in range(count):
        mixed = hashes[i]
        mixed ^= mixed >> np.uint32(16)
        mixed = np.uint32(mixed * np.uint32(0x85EBCA6B))
        mixed ^= mixed >> np.uint32(13)
        mixed = np.uint32(mixed * np.uint32(0xC2B2AE35))
        mixed ^= mixed >> np.uint32(16)
        hashes[i] = mixed


@numba.njit(nogil=True)
def _minima(characters, starts, places, factors, summands, result):  # type: ignore[no-untyped-def]
    hashes = np.empty(_BLOCK + _LANES, np.uint32)
    for text in range(len(starts) - 1):
        shingles = starts[text + 1] - starts[text] - len(places) + 1
        for done in range(0, shingles, _BLOCK):
            count = min(_BLOCK, shingles - done)
            _hash_shingles(characters, starts[text] + done, count, places, hashes)
            # Repeats of the last one fill the vectors and change no minimum.
            filled = (count + _LANES - 1) // _LANES * _LANES
            for i in range(count, filled):
                hashes[i] = hashes[count - 1]
            for k in range(len(factors)):
                factor, summand, least = factors[k], summands[k], result[text, k]
                for i in range(filled):
                    value = np.uint32(np.uint32(hashes[i] * factor) + summand)
                    least = value if value < least else least
                result[text, k] = least


@numba.njit(nogil=True)
def _common(values, first, first_end, second, second_end):  # type: ignore[no-untyped-def]
    """How many values two ascending stretches of ``values`` share."""
    common = 0
    while first < first_end and second < second_end:
        left, right = values[first], values[second]
        common += left == right
        first += left <= right
        second += right <= left
    return common


@numba.njit(nogil=True)
def _similarities(values, starts, left, right, result):  # type: ignore[no-untyped-def]
    for pair in range(len(left)):
        first, second = left[pair], right[pair]
        common = _common(values, starts[first], starts[first + 1], starts[second], starts[second + 1])
        union = starts[first + 1] - starts[first] + starts[second + 1] - starts[second] - common
        result[pair] = common / union if union else 0.0


def fast_similarities(
    values: NDArray[np.uint32], starts: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Gives what ``similarities`` of ``verification.py`` gives."""
    result = np.empty(len(left))
    _similarities(values, starts, left, right, result)
    return result
