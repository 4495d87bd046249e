"""The floor lines of a run: what a model reaches that only knows how frequent tokens, or pairs of tokens, are.

A run whose loss stays at the unigram line has learnt which tokens are frequent and nothing else. Both models are
counted on the train split and measured on the valid split.

Unigram: P(b) = m * c(b) / N + (1 - m) / V. Bigram: P(b|a) = l * c(a, b) / c(a) + (1 - l) * P(b), where l depends on how
often the token a was seen (Jelinek and Mercer, 1980). The weights m and l are fitted by expectation maximisation on
blocks of train that are left out of the counts for that purpose; then everything is counted again with them in.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.indexed_dataset import Tokens
from megatron_style_data.manifest import Floor, SplitName, SplitRecord

# Tokens whose pairs are counted; sorting them takes about 30 bytes each (half as many with a vocabulary up to 65,536).
# A quarter as many are enough to measure on.
MAXIMUM_PAIRS = 1 << 22
_BLOCK_TOKENS = 1 << 14
_FITTED_ON_EVERY = 10
_COUNT_CHUNK = 1 << 20
_ROUNDS = 30
_BUCKETS = 64


Codes: TypeAlias = NDArray[np.uint32] | NDArray[np.int64]


class TokenSequence(Protocol):
    """All tokens of a dataset: an array, or a file of which slices are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> Tokens: ...


@dataclass(frozen=True, slots=True)
class _Split:
    """The tokens of one split, read where they are wanted."""

    tokens: TokenSequence
    first: int
    length: int

    def read(self, start: int, end: int) -> Tokens:
        return self.tokens[self.first + start : self.first + end]


@dataclass(frozen=True, slots=True)
class _Counted:
    """Pairs and how often each occurs.

    Attributes:
        codes: (distinct pairs,) sorted, first token * vocabulary + second token.
        counts: (distinct pairs,) how often each occurs.
    """

    codes: Codes
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def mean(self, values: NDArray[np.float64]) -> float:
        return float((values * self.counts).sum() / self.total)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Counts of neighbouring tokens.

    Attributes:
        codes: (distinct pairs,) sorted, first token * vocabulary + second token.
        counts: (distinct pairs,) how often each occurs.
        firsts: (vocabulary,) how often each token is the first of a pair.
    """

    codes: Codes
    counts: NDArray[np.int64]
    firsts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Models:
    """Both frequency models, ready to give probabilities.

    Attributes:
        unigram: (vocabulary,) probability of each token, none of them 0.
        pairs: What the bigram is counted on.
        weights: (buckets,) trust in the pairs, by how often their first token was seen.
    """

    unigram: NDArray[np.float64]
    pairs: _Pairs
    weights: NDArray[np.float64]


def measure_floor(
    tokens: TokenSequence, splits: dict[SplitName, SplitRecord], vocab_size: int, maximum_pairs: int = MAXIMUM_PAIRS
) -> Floor | None:
    """Cross-entropies of the two frequency models.

    Args:
        tokens: All tokens of a dataset.
        splits: Where train and valid lie. Without valid, train is measured, which flatters.
        vocab_size: V.
        maximum_pairs: Bound on the tokens whose pairs are counted; spread evenly over the split if it has more.

    Returns:
        None if train has too few tokens to set some aside for fitting.
    """
    train = _split(tokens, splits["train"])
    measured_on: SplitName = "valid" if "valid" in splits else "train"
    codes = _pair_codes(train, vocab_size, maximum_pairs)
    if len(codes) < 2 * _FITTED_ON_EVERY:
        return None
    models = _fit(codes, _count(train, vocab_size), vocab_size)
    measured = _counted(_pair_codes(_split(tokens, splits[measured_on]), vocab_size, -(-maximum_pairs // 4)))
    unigram = models.unigram[measured.codes % vocab_size]
    from_pairs, seen = _look_up(models.pairs, measured.codes)
    weights = models.weights[_bucket(seen)]
    unigram_loss = measured.mean(-np.log(unigram))
    bigram_loss = measured.mean(-np.log(weights * from_pairs + (1 - weights) * unigram))
    bits_per_nat = splits[measured_on].tokens_per_byte / math.log(2)
    return Floor(
        unigram_loss=unigram_loss,
        unigram_bits_per_byte=unigram_loss * bits_per_nat,
        bigram_loss=bigram_loss,
        bigram_bits_per_byte=bigram_loss * bits_per_nat,
        measured_on=measured_on,
        measured_tokens=measured.total,
        bigram_tokens=len(codes),
    )


def _fit(codes: Codes, counts: NDArray[np.int64], vocab_size: int) -> _Models:
    """Fits the weights on a tenth of the pairs of train, then counts all of them."""
    block = max(1, min(_BLOCK_TOKENS, len(codes) // (2 * _FITTED_ON_EVERY)))
    every, part = _FITTED_ON_EVERY * block, (_FITTED_ON_EVERY - 1) * block
    starts = range(0, len(codes), every)
    kept = _counted(np.concatenate([codes[start : start + part] for start in starts]))
    held_out = _counted(np.concatenate([codes[start + part : start + every] for start in starts]))
    seconds = held_out.codes % vocab_size
    # Sums of integers below 2**53 are exact in the floats that bincount adds in.
    kept_counts = np.bincount(kept.codes % vocab_size, kept.counts, minlength=vocab_size)
    times = held_out.counts.astype(np.float64)
    trust = _fit_weight((kept_counts / kept.total)[seconds], 1 / vocab_size, times)
    kept_unigram = _unigram(kept_counts, trust)
    kept_pairs = _Pairs(kept.codes, kept.counts, _firsts(kept, vocab_size))
    from_pairs, seen = _look_up(kept_pairs, held_out.codes)
    weights = _fit_weights(from_pairs, kept_unigram[seconds], times, _bucket(seen))
    every_pair = _merged(kept, held_out)
    firsts = kept_pairs.firsts + _firsts(held_out, vocab_size)
    return _Models(_unigram(counts, trust), _Pairs(every_pair.codes, every_pair.counts, firsts), weights)


def _fit_weights(
    sharp: NDArray[np.float64],
    smooth: NDArray[np.float64],
    times: NDArray[np.float64],
    buckets: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(_BUCKETS,) the weight of ``_fit_weight`` for the pairs of each bucket; one half where there are none."""
    weights = np.full(_BUCKETS, 0.5)
    order = np.argsort(buckets.astype(np.uint8), kind="stable")
    ends = np.cumsum(np.bincount(buckets, minlength=_BUCKETS))
    for bucket, members in enumerate(np.split(order, ends[:-1])):
        if len(members):
            weights[bucket] = _fit_weight(sharp[members], smooth[members], times[members])
    return weights


def _fit_weight(sharp: NDArray[np.float64], smooth: NDArray[np.float64] | float, times: NDArray[np.float64]) -> float:
    """The weight w that makes w * sharp + (1 - w) * smooth most likely for what was seen so many times.

    Never 1, as sharp may be 0: no certainty from few observations.
    """
    weight, total = 0.5, float(times.sum())
    from_sharp, both = np.empty((2, len(sharp)))
    for _ in range(_ROUNDS):
        np.multiply(sharp, weight, out=from_sharp)
        np.multiply(smooth, 1 - weight, out=both)
        both += from_sharp
        from_sharp /= both
        from_sharp *= times
        # Added up from the first to the last: the sum must not depend on how a library cuts an array into pieces.
        weight = float(np.cumsum(from_sharp, out=both)[-1]) / total
    return min(weight, 1 - 0.5 / (total + 1))


def _unigram(counts: NDArray[np.int64] | NDArray[np.float64], trust: float) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = trust * counts / counts.sum() + (1 - trust) / len(counts)
    return probabilities


def _counted(codes: Codes) -> _Counted:
    """Counts pairs; sorts ``codes`` in place, as they may be large."""
    codes.sort()
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return _Counted(codes[starts], np.diff(starts, append=len(codes)))


def _merged(one: _Counted, other: _Counted) -> _Counted:
    """The pairs of both; the second are few beside the first."""
    at = np.searchsorted(one.codes, other.codes)
    known = one.codes[np.minimum(at, len(one.codes) - 1)] == other.codes
    counts = one.counts.copy()
    counts[at[known]] += other.counts[known]
    new = ~known
    places = at[new]
    codes: Any = np.insert(one.codes, places, other.codes[new])
    return _Counted(codes, np.insert(counts, places, other.counts[new]))


def _firsts(counted: _Counted, vocab_size: int) -> NDArray[np.int64]:
    return np.bincount(counted.codes // vocab_size, counted.counts, minlength=vocab_size).astype(np.int64)


def _look_up(pairs: _Pairs, codes: Codes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """c(a, b) / c(a) of each pair, 0 where a was never seen, and c(a)."""
    seen = pairs.firsts[codes // len(pairs.firsts)]
    at = np.minimum(np.searchsorted(pairs.codes, codes), len(pairs.codes) - 1)
    together = np.where(pairs.codes[at] == codes, pairs.counts[at], 0)
    return together / np.maximum(seen, 1), seen


def _bucket(seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 for tokens never seen, then one bucket for each doubling."""
    buckets: NDArray[np.int64] = np.frexp(seen)[1].astype(np.int64)
    return buckets


def _split(tokens: TokenSequence, split: SplitRecord) -> _Split:
    return _Split(tokens, split.first_token, split.tokens)


def _pair_codes(split: _Split, vocab_size: int, maximum: int) -> Codes:
    """first * V + second of each token and the one before it, for all tokens or for blocks spread evenly over them.

    The one before the first is the last: a split is a circle in training, too.
    """
    kind: type[np.uint32] | type[np.int64] = np.uint32 if vocab_size <= 1 << 16 else np.int64
    chunks: list[Any] = []
    for start, end in _blocks(split.length, maximum):
        before = split.read(start - 1, start) if start else split.read(split.length - 1, split.length)
        here = split.read(start, end)
        codes: Any = np.concatenate([before, here[:-1]]).astype(kind)
        codes *= kind(vocab_size)
        codes += here.astype(kind)
        chunks.append(codes)
    found: Codes = np.concatenate(chunks)
    return found


def _blocks(tokens: int, maximum: int) -> Iterator[tuple[int, int]]:
    if tokens <= maximum:
        yield 0, tokens
        return
    size = min(_BLOCK_TOKENS, maximum)
    number = maximum // size
    for index in range(number):
        start = index * (tokens - size) // max(1, number - 1)
        yield start, start + size


def _count(split: _Split, vocab_size: int) -> NDArray[np.int64]:
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, split.length, _COUNT_CHUNK):
        chunk = split.read(start, min(start + _COUNT_CHUNK, split.length))
        counts += np.bincount(chunk, minlength=vocab_size)
    return counts
