"""Keyed permutation of [0, size) with O(1) state: where sample i of an epoch lies, without a stored shuffle.

A Feistel network permutes a domain of 2**bits >= size numbers; a number that lands outside [0, size) is sent
through again until it lands inside (cycle walking; Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
The result is a bijection for every key, can be inverted, and needs nothing but the round keys: opening a dataset of any
size costs the same, and any epoch is reached at once. It shuffles training data; it is not cryptography.

The arithmetic below is frozen by tests: changing it would change the order of every run ever started.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MASK_64 = (1 << 64) - 1
# Chi-square over 4000 keys: with four and with six rounds, sizes below ten had favourite permutations; with eight none.
# Even, so that halves of unequal width are back in their places after the last round.
_ROUNDS = 8
# Numbers that are permuted together when one of them is asked for: 0.4 us each instead of 80 us for one alone.
_BLOCK = 1024


def mix_64(*numbers: int) -> int:
    """One 64-bit number from several, by splitmix64 steps (Steele, Lea and Flood, 2014).

    Args:
        numbers: Integers of any size and sign; only their low 64 bits count. Order matters.
    """
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK_64)) + 0x9E3779B97F4A7C15 & _MASK_64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK_64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK_64
        state ^= state >> 31
    return state


@dataclass(frozen=True, slots=True)
class Permutation:
    """A bijection of [0, size) onto itself, chosen by `key`.

    Attributes:
        size: How many numbers are permuted, >= 1.
        key: Any 64-bit integer, e.g. ``mix_64(seed, epoch)``.
    """

    size: int
    key: int

    def __post_init__(self) -> None:
        if not 1 <= self.size < 1 << 62:
            raise ValueError(f"a permutation needs 1 <= size < 2**62, got {self.size}")

    def forward(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Images of `indices`, any shape. Cheapest in blocks: 0.4 us each at 1024, about 80 us for a single one."""
        return self._walk(indices, inverse=False)

    def inverse(self, images: ArrayLike) -> NDArray[np.int64]:
        """The indices that `forward` sends to `images`, any shape."""
        return self._walk(images, inverse=True)

    def _walk(self, numbers: ArrayLike, *, inverse: bool) -> NDArray[np.int64]:
        given = np.asarray(numbers, dtype=np.int64)
        if given.size and (given.min() < 0 or given.max() >= self.size):
            raise IndexError(f"indices must lie in [0, {self.size}), got {given.min()} to {given.max()}")
        # At least 4 bits, so that each half has room to be mixed.
        bits = max(4, (self.size - 1).bit_length())
        keys = [np.uint64(mix_64(self.key, number)) for number in range(_ROUNDS)]
        flat = given.reshape(-1).astype(np.uint64)
        outside = np.arange(flat.size)
        while outside.size:
            images = _network(flat[outside], bits, keys, inverse=inverse)
            flat[outside] = images
            outside = outside[images >= np.uint64(self.size)]
        return flat.astype(np.int64).reshape(given.shape)


class BlockwisePermutation:
    """A permutation that remembers the last block of images: neighbours are cheap also when asked for in small calls.

    Attributes:
        permutation: What it gives the images of.
    """

    def __init__(self, permutation: Permutation) -> None:
        self.permutation = permutation
        self._known: tuple[int, NDArray[np.int64]] | None = None

    def forward(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of `indices`, (n,)."""
        if not indices.size:
            return indices
        first, last = int(indices.min()) // _BLOCK, int(indices.max()) // _BLOCK
        if last - first > 1:
            return self.permutation.forward(indices)
        images: NDArray[np.int64] = np.concatenate([self._block(number) for number in range(first, last + 1)])
        return images[indices - first * _BLOCK]

    def _block(self, number: int) -> NDArray[np.int64]:
        known = self._known
        if known is None or known[0] != number:
            end = min((number + 1) * _BLOCK, self.permutation.size)
            known = self._known = (number, self.permutation.forward(np.arange(number * _BLOCK, end)))
        return known[1]


def _network(numbers: NDArray[np.uint64], bits: int, keys: list[np.uint64], *, inverse: bool) -> NDArray[np.uint64]:
    """One pass over [0, 2**bits). The halves, the left one wider for odd `bits`, swap widths each round."""
    narrow = bits // 2
    masks = (np.uint64((1 << (bits - narrow)) - 1), np.uint64((1 << narrow) - 1))
    left, right = numbers >> np.uint64(narrow), numbers & masks[1]
    for number in reversed(range(_ROUNDS)) if inverse else range(_ROUNDS):
        mask = masks[number % 2]
        if inverse:
            left, right = right ^ _round(left, keys[number], mask), left
        else:
            left, right = right, left ^ _round(right, keys[number], mask)
    return (left << np.uint64(narrow)) | right


def _round(half: NDArray[np.uint64], key: np.uint64, mask: np.uint64) -> NDArray[np.uint64]:
    """Pseudo-random function of one half; multiplications wrap modulo 2**64 on purpose."""
    mixed = (half ^ key) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(29)
    return mixed & mask
