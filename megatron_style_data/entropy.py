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

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.indexed_dataset import Tokens
from megatron_style_data.manifest import Floor, SplitName, SplitRecord

# Tokens whose pairs are counted; sorting them takes about 30 bytes each. A quarter as many are enough to measure on.
MAXIMUM_PAIRS = 1 << 23
_BLOCK_TOKENS = 1 << 14
_FITTED_ON_EVERY = 10
_COUNT_CHUNK = 1 << 24
_ROUNDS = 30
_BUCKETS = 64


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Counts of neighbouring tokens.

    Attributes:
        codes: (distinct pairs,) sorted, first token * vocabulary + second token.
        counts: (distinct pairs,) how often each occurs.
        firsts: (vocabulary,) how often each token is the first of a pair.
    """

    codes: NDArray[np.int64]
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
    tokens: Tokens, splits: dict[SplitName, SplitRecord], vocab_size: int, maximum_pairs: int = MAXIMUM_PAIRS
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
    train = _split_tokens(tokens, splits["train"])
    measured_on: SplitName = "valid" if "valid" in splits else "train"
    codes = _pair_codes(train, vocab_size, maximum_pairs)
    if len(codes) < 2 * _FITTED_ON_EVERY:
        return None
    models = _fit(codes, _count(train, vocab_size), vocab_size)
    targets = _pair_codes(_split_tokens(tokens, splits[measured_on]), vocab_size, -(-maximum_pairs // 4))
    unigram = models.unigram[targets % vocab_size]
    from_pairs, seen = _look_up(models.pairs, targets)
    weights = models.weights[_bucket(seen)]
    unigram_loss = float(-np.log(unigram).mean())
    bigram_loss = float(-np.log(weights * from_pairs + (1 - weights) * unigram).mean())
    bits_per_nat = splits[measured_on].tokens_per_byte / math.log(2)
    return Floor(
        unigram_loss=unigram_loss,
        unigram_bits_per_byte=unigram_loss * bits_per_nat,
        bigram_loss=bigram_loss,
        bigram_bits_per_byte=bigram_loss * bits_per_nat,
        measured_on=measured_on,
        measured_tokens=len(targets),
        bigram_tokens=len(codes),
    )


def _fit(codes: NDArray[np.int64], counts: NDArray[np.int64], vocab_size: int) -> _Models:
    """Fits the weights on a tenth of the pairs of train, then counts all of them."""
    block = max(1, min(_BLOCK_TOKENS, len(codes) // (2 * _FITTED_ON_EVERY)))
    aside = np.arange(len(codes)) // block % _FITTED_ON_EVERY == _FITTED_ON_EVERY - 1
    kept, held_out = codes[~aside], codes[aside]
    seconds = held_out % vocab_size
    kept_counts = np.bincount(kept % vocab_size, minlength=vocab_size)
    trust = _fit_weights((kept_counts / len(kept))[seconds], 1 / vocab_size, np.zeros(len(seconds), np.int64))[0]
    kept_unigram = _unigram(kept_counts, trust)
    from_pairs, seen = _look_up(_count_pairs(kept, vocab_size), held_out)
    weights = _fit_weights(from_pairs, kept_unigram[seconds], _bucket(seen))
    return _Models(_unigram(counts, trust), _count_pairs(codes, vocab_size), weights)


def _fit_weights(
    sharp: NDArray[np.float64], smooth: NDArray[np.float64] | float, buckets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For each bucket the weight w that makes w * sharp + (1 - w) * smooth most likely; never 1, as sharp may be 0."""
    members = np.bincount(buckets, minlength=_BUCKETS)
    weights = np.full(_BUCKETS, 0.5)
    for _ in range(_ROUNDS):
        mine = weights[buckets]
        from_sharp = mine * sharp / (mine * sharp + (1 - mine) * smooth)
        weights = np.bincount(buckets, from_sharp, minlength=_BUCKETS) / np.maximum(members, 1)
    # A bucket nobody fell into, and no certainty from few observations.
    return np.where(members > 0, np.minimum(weights, 1 - 0.5 / (members + 1)), 0.5)


def _unigram(counts: NDArray[np.int64], trust: float) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = trust * counts / counts.sum() + (1 - trust) / len(counts)
    return probabilities


def _count_pairs(codes: NDArray[np.int64], vocab_size: int) -> _Pairs:
    distinct, counts = np.unique(codes, return_counts=True)
    return _Pairs(distinct, counts, np.bincount(codes // vocab_size, minlength=vocab_size))


def _look_up(pairs: _Pairs, codes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """c(a, b) / c(a) of each pair, 0 where a was never seen, and c(a)."""
    seen = pairs.firsts[codes // len(pairs.firsts)]
    at = np.minimum(np.searchsorted(pairs.codes, codes), len(pairs.codes) - 1)
    together = np.where(pairs.codes[at] == codes, pairs.counts[at], 0)
    return together / np.maximum(seen, 1), seen


def _bucket(seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 for tokens never seen, then one bucket for each doubling."""
    buckets: NDArray[np.int64] = np.frexp(seen)[1].astype(np.int64)
    return buckets


def _split_tokens(tokens: Tokens, split: SplitRecord) -> Tokens:
    return tokens[split.first_token : split.first_token + split.tokens]


def _pair_codes(tokens: Tokens, vocab_size: int, maximum: int) -> NDArray[np.int64]:
    """first * V + second of each token and the one before it, for all tokens or for blocks spread evenly over them.

    The one before the first is the last: a split is a circle in training, too.
    """
    chunks = []
    for start, end in _blocks(len(tokens), maximum):
        before = np.concatenate([tokens[start - 1 : start] if start else tokens[-1:], tokens[start : end - 1]])
        chunks.append(before.astype(np.int64) * vocab_size + tokens[start:end])
    return np.concatenate(chunks)


def _blocks(tokens: int, maximum: int) -> Iterator[tuple[int, int]]:
    if tokens <= maximum:
        yield 0, tokens
        return
    size = min(_BLOCK_TOKENS, maximum)
    number = maximum // size
    for index in range(number):
        start = index * (tokens - size) // max(1, number - 1)
        yield start, start + size


def _count(tokens: Tokens, vocab_size: int) -> NDArray[np.int64]:
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(tokens), _COUNT_CHUNK):
        counts += np.bincount(tokens[start : start + _COUNT_CHUNK], minlength=vocab_size)
    return counts
