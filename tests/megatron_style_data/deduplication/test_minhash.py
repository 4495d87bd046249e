"""Signatures: the compiled form against the plain one, and estimates against the truth."""

import numpy as np
import pytest
from made_up_chinese import chinese, with_another_end

from megatron_style_data.deduplication.fast import FastMinHash, fast_similarities
from megatron_style_data.deduplication.folding import fold
from megatron_style_data.deduplication.minhash import NOTHING, PlainMinHash, band_keys, constants_for, shingle_hashes
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.verification import similarities

SETTINGS = DuplicateSettings()
HOSTILE = ["", "，。", "四个字。", "五个字五个", "a" * 5000, "\ud800孤立", "😀" * 70, "床前明月光，疑是地上霜。" * 900]


def hostile_texts() -> list[str]:
    draw = np.random.default_rng(1)
    return [*HOSTILE, *(chinese(draw, int(length)) for length in draw.integers(1, 400, 40)), chinese(draw, 2052)]


def shingles(text: str) -> set[str]:
    text = fold(text)
    return {text[place : place + 5] for place in range(len(text) - 4)}


def test_many_texts_are_folded_as_one_text_is() -> None:
    texts = hostile_texts()
    folded = PlainMinHash(SETTINGS).fold(texts)
    assert ["".join(map(chr, folded[number])) for number in range(len(texts))] == [fold(text) for text in texts]


@pytest.mark.parametrize("settings", [SETTINGS, DuplicateSettings(permutations=16, shingle=1)])
def test_the_compiled_form_gives_what_the_plain_one_gives(settings: DuplicateSettings) -> None:
    texts = hostile_texts()
    plain, fast = PlainMinHash(settings), FastMinHash(settings)
    folded, folded_fast = plain.fold(texts), fast.fold(texts)
    assert np.array_equal(folded.characters, folded_fast.characters)
    assert np.array_equal(folded.starts, folded_fast.starts)
    assert np.array_equal(plain.signatures(folded), fast.signatures(folded_fast))


def test_a_text_shorter_than_a_shingle_has_an_empty_signature() -> None:
    minhash = PlainMinHash(SETTINGS)
    signatures = minhash.signatures(minhash.fold(["四个字。", "五个字五个。"]))
    assert (signatures[0] == NOTHING).all()
    assert (signatures[1] != NOTHING).all()


def test_signatures_are_the_same_on_every_machine_and_in_every_version() -> None:
    minhash = PlainMinHash(SETTINGS)
    signature = minhash.signatures(minhash.fold(["床前明月光，疑是地上霜。"]))[0]
    assert signature[:4].tolist() == [476634236, 278221712, 363295370, 1607695847]


def test_estimates_are_off_by_no_more_than_128_permutations_allow() -> None:
    draw = np.random.default_rng(2)
    firsts = [chinese(draw, int(length)) for length in draw.integers(20, 600, 300)]
    seconds = [with_another_end(text, draw, int(len(text) * draw.random() * 0.8)) for text in firsts]
    minhash = PlainMinHash(SETTINGS)
    one, other = (minhash.signatures(minhash.fold(texts)) for texts in (firsts, seconds))
    estimates = (one == other).mean(axis=1)
    truth = [
        len(shingles(first) & shingles(second)) / len(shingles(first) | shingles(second))
        for first, second in zip(firsts, seconds, strict=True)
    ]
    errors = estimates - np.array(truth)
    assert np.abs(errors).mean() <= 0.04
    assert abs(errors.mean()) <= 0.008


def test_band_keys_are_equal_where_the_values_of_the_band_are() -> None:
    signatures = np.arange(4 * 16, dtype=np.uint32).reshape(4, 16)
    signatures[3] = signatures[0]
    signatures[3, 5] += 1
    keys = band_keys(signatures, bands=5, rows=3)
    assert keys.shape == (5, 4)
    assert (keys[:, 0] == keys[:, 3]).tolist() == [True, False, True, True, True]
    assert not (keys[:, 0] == keys[:, 1]).any()


@pytest.mark.parametrize("compare", [similarities, fast_similarities])
def test_similarity_of_sets_is_their_jaccard_index(compare: object) -> None:
    assert callable(compare)
    texts = ["床前明月光疑是地上霜", "床前明月光疑是地上雪", "举头望明月低头思故乡", ""]
    constants = constants_for(SETTINGS)
    folded = PlainMinHash(SETTINGS).fold(texts)
    sets = [np.unique(shingle_hashes(folded[number], constants)) for number in range(4)]
    starts = np.concatenate(([0], np.cumsum([len(each) for each in sets])))
    pairs = np.array([[0, 1], [0, 2], [0, 0], [3, 3]]).T
    found = compare(np.concatenate(sets), starts, pairs[0], pairs[1])
    assert found.tolist() == [5 / 7, 0, 1, 0]
