"""MinHash signatures of many texts at once: folded characters, shingles, minima; numpy here, compiled in ``fast.py``.

The hash of a shingle is a sum of its code points times odd constants modulo 2^32, mixed; permutation k maps hash h to
a_k h + b_k modulo 2^32, and value k of the signature is the least of these over the text's shingles (Broder 1997, with
multiply-shift permutations). Two texts agree in as large a share of the values as of all their shingles.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.deduplication.folding import folding_table
from megatron_style_data.deduplication.settings import DuplicateSettings

# Value of a signature without shingles: texts shorter than one.
NOTHING = np.uint32(0xFFFFFFFF)
# Finaliser of MurmurHash3 (public domain): every bit of the sum moves every bit of the hash.
MIX = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))
_SEED = 20240229
_FEW_BYTES = 300_000
_COMPILED = "megatron_style_data.deduplication.fast"


@dataclass(frozen=True, slots=True)
class FoldedTexts:
    """Several texts after folding, one behind the other.

    Attributes:
        characters: Code points, (characters,) uint32.
        starts: Where each text begins and the last one ends, (texts + 1,) int64.
    """

    characters: NDArray[np.uint32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> NDArray[np.uint32]:
        return self.characters[self.starts[number] : self.starts[number + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each text."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """The constants of the hash functions.

    Attributes:
        places: Factor of each place of a shingle, (shingle,) uint32, odd.
        factors: a of each permutation, (permutations,) uint32, odd.
        summands: b of each permutation.
    """

    places: NDArray[np.uint32]
    factors: NDArray[np.uint32]
    summands: NDArray[np.uint32]


def constants_for(settings: DuplicateSettings) -> Constants:
    """The same constants everywhere for the same settings."""
    # Words drawn from a counter generator whose stream numpy promises to keep.
    words = np.random.Philox(_SEED).random_raw(settings.shingle + 2 * settings.permutations).astype(np.uint32)
    places, factors, summands = np.split(words, [settings.shingle, settings.shingle + settings.permutations])
    return Constants(places | np.uint32(1), factors | np.uint32(1), summands)


class MinHash(Protocol):
    """The two steps that have a plain and a compiled form with the same results."""

    def fold(self, texts: Sequence[str]) -> FoldedTexts:
        """Folds texts."""

    def signatures(self, folded: FoldedTexts) -> NDArray[np.uint32]:
        """Signatures, (texts, permutations) uint32; ``NOTHING`` where a text is shorter than a shingle."""


class PlainMinHash:
    """The reference, in numpy; quick enough for a few megabytes."""

    def __init__(self, settings: DuplicateSettings) -> None:
        self._settings, self._constants = settings, constants_for(settings)

    def fold(self, texts: Sequence[str]) -> FoldedTexts:
        """Folds texts."""
        codes, starts = code_points(texts)
        folded = folding_table()[codes]
        kept = folded != 0
        before = np.concatenate(([0], np.cumsum(kept)))
        return FoldedTexts(folded[kept], before[starts])

    def signatures(self, folded: FoldedTexts) -> NDArray[np.uint32]:
        """Signatures, (texts, permutations) uint32."""
        constants = self._constants
        result = np.full((len(folded), self._settings.permutations), NOTHING)
        for number in range(len(folded)):
            hashes = shingle_hashes(folded[number], constants)
            for piece in np.array_split(hashes, len(hashes) // 4096 + 1):
                if len(piece):
                    values = piece[:, None] * constants.factors + constants.summands
                    np.minimum(result[number], values.min(axis=0), out=result[number])
        return result


def minhash_for(settings: DuplicateSettings, size_bytes: int) -> MinHash:
    """The form that is done sooner for a file of this size: compiling takes a second, once a process."""
    if size_bytes < _FEW_BYTES and _COMPILED not in sys.modules:
        return PlainMinHash(settings)
    from megatron_style_data.deduplication.fast import FastMinHash

    return FastMinHash(settings)


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """All code points of the texts, and where each text begins; lone surrogates are passed on."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=starts[1:])
    return codes, starts


def shingle_hashes(characters: NDArray[np.uint32], constants: Constants) -> NDArray[np.uint32]:
    """The hash of each shingle of one folded text, in order and with repeats; empty if it is shorter than one."""
    width = len(constants.places)
    if len(characters) < width:
        return np.empty(0, np.uint32)
    hashes = np.zeros(len(characters) - width + 1, np.uint32)
    for place, factor in enumerate(constants.places):
        hashes += characters[place : place + len(hashes)] * factor
    for shift, factor in MIX:
        hashes ^= hashes >> np.uint32(shift)
        hashes *= np.uint32(factor)
    return hashes


def band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.uint64]:
    """One 64-bit key a band of each signature, (bands, texts) uint64: equal where all values of the band are."""
    values = signatures[:, : bands * rows].reshape(len(signatures), bands, rows)
    keys = np.zeros((bands, len(signatures)), np.uint64)
    for row in range(rows):
        keys ^= values[:, :, row].T
        keys *= np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys
