"""The floor lines: equal to a plain calculation, and in the order that theory wants."""

import math
from collections import Counter

import numpy as np
import pytest

from megatron_style_data.entropy import measure_floor
from megatron_style_data.manifest import SplitName, SplitRecord


def splits_of(train: int, valid: int, bytes_per_token: int = 3) -> dict[SplitName, SplitRecord]:
    found: dict[SplitName, SplitRecord] = {"train": SplitRecord(0, 1, 0, train, train * bytes_per_token)}
    if valid:
        found["valid"] = SplitRecord(1, 1, train, valid, valid * bytes_per_token)
    return found


def markov_tokens(number: int, states: int = 20) -> np.ndarray:
    """A chain in which each token has two likely successors."""
    draw = np.random.default_rng(3)
    tokens = [0]
    for _ in range(number - 1):
        near = draw.random() < 0.8
        tokens.append((tokens[-1] * 7 + int(draw.integers(0, 2))) % states if near else int(draw.integers(0, states)))
    return np.array(tokens, np.uint16)


def test_the_unigram_line_is_a_plain_cross_entropy() -> None:
    tokens = np.random.default_rng(4).geometric(0.3, 30_000).clip(max=19).astype(np.uint16)
    floor = measure_floor(tokens, splits_of(25_000, 5_000), 20)
    assert floor is not None
    counts = Counter(tokens[:25_000].tolist())
    plain = -sum(math.log(counts[token] / 25_000) for token in tokens[25_000:].tolist()) / 5_000
    assert floor.unigram_loss == pytest.approx(plain, abs=1e-3)  # the rest is the share given to unseen tokens
    assert floor.unigram_bits_per_byte == pytest.approx(floor.unigram_loss / math.log(2) / 3)
    assert (floor.measured_on, floor.measured_tokens, floor.bigram_tokens) == ("valid", 5_000, 25_000)


def test_the_bigram_line_is_near_the_entropy_of_a_chain() -> None:
    floor = measure_floor(markov_tokens(120_000), splits_of(100_000, 20_000), 20)
    assert floor is not None
    likely, other = 0.4 + 0.2 / 20, 0.2 / 20
    entropy = -2 * likely * math.log(likely) - 18 * other * math.log(other)
    assert floor.bigram_loss == pytest.approx(entropy, abs=0.02)
    assert floor.bigram_loss < floor.unigram_loss


def test_where_pairs_say_nothing_the_bigram_line_falls_back_to_the_unigram_line() -> None:
    tokens = np.random.default_rng(5).integers(0, 5_000, 30_000).astype(np.int32)
    floor = measure_floor(tokens, splits_of(25_000, 5_000), 5_000)
    assert floor is not None
    assert floor.bigram_loss == pytest.approx(floor.unigram_loss, abs=0.02)


def test_tokens_and_pairs_never_seen_in_train_cost_something_finite() -> None:
    tokens = np.concatenate([markov_tokens(10_000), np.full(100, 900)]).astype(np.uint16)
    floor = measure_floor(tokens, splits_of(10_000, 100), 1000)
    assert floor is not None
    assert floor.unigram_loss > math.log(1000)
    assert math.isfinite(floor.bigram_loss)


def test_without_valid_it_is_measured_on_train_and_says_so() -> None:
    floor = measure_floor(markov_tokens(10_000), splits_of(10_000, 0), 20)
    assert floor is not None
    assert floor.measured_on == "train"


def test_the_pairs_of_a_large_corpus_are_taken_evenly_and_within_bounds() -> None:
    tokens = markov_tokens(400_000)
    whole = measure_floor(tokens, splits_of(380_000, 20_000), 20)
    part = measure_floor(tokens, splits_of(380_000, 20_000), 20, maximum_pairs=100_000)
    assert whole is not None
    assert part is not None
    assert part.bigram_tokens <= 100_000
    assert part.measured_tokens <= 25_000
    assert part.unigram_loss == pytest.approx(whole.unigram_loss, abs=0.02)
    assert part.bigram_loss == pytest.approx(whole.bigram_loss, abs=0.02)


def test_nothing_is_fitted_on_valid() -> None:
    """The loss on two texts together is the mean of their losses only if the models are the same for both."""
    train, other = markov_tokens(20_000), np.arange(2_000).astype(np.uint16) % 20
    floors = [
        measure_floor(np.concatenate([train, *valid]), splits_of(20_000, sum(map(len, valid))), 20)
        for valid in ([train[:2_000]], [other], [train[:2_000], other])
    ]
    like, unlike, both = (floor.bigram_loss for floor in floors if floor is not None)
    assert both == pytest.approx((like + unlike) / 2, abs=2e-3)  # each first token has another forerunner


def test_too_little_text_has_no_floor() -> None:
    assert measure_floor(np.array([1, 2, 0], np.uint16), splits_of(3, 0), 5) is None
