"""Held-out documents: chosen by their text, from every source, duplicates together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.splits import TEST, TRAIN, VALID, assign_splits, check_fractions, share


def hashes_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def sources_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_the_lowest_hashes_of_each_source_are_valid_and_the_next_are_test() -> None:
    hashes = hashes_of(50, 10, 40, 20, 30, 99, 91, 92, 93, 94)
    sources = sources_of(0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
    splits = assign_splits(hashes, sources, 0.2, 0.4)
    assert splits.tolist() == [TRAIN, VALID, TRAIN, TEST, TEST, TRAIN, VALID, TEST, TEST, TRAIN]


def test_a_part_of_a_document_is_a_whole_one() -> None:
    splits = assign_splits(np.arange(11, dtype=np.uint64), sources_of(*[0] * 11), 0.1, 0)
    assert np.flatnonzero(splits == VALID).tolist() == [0, 1]


def test_shares_are_counted_by_decimal_digits() -> None:
    assert share(0.07, 100) == 7  # 0.07 * 100 is 7.000000000000001
    assert (share(0.01, 498), share(0.0, 5), share(1e-05, 3)) == (5, 0, 1)


def test_a_text_held_out_in_one_source_is_held_out_in_all() -> None:
    hashes = hashes_of(1, 50, 60, 70, 1, 2, 3, 4)
    sources = sources_of(0, 0, 0, 0, 1, 1, 1, 1)
    splits = assign_splits(hashes, sources, 0.25, 0)
    assert splits.tolist() == [VALID, TRAIN, TRAIN, TRAIN, VALID, TRAIN, TRAIN, TRAIN]


def test_duplicates_fall_together_within_a_source() -> None:
    splits = assign_splits(hashes_of(5, 9, 5, 8, 5, 7, 6, 9, 9, 9), sources_of(*[0] * 10), 0.1, 0)
    assert np.flatnonzero(splits == VALID).tolist() == [0, 2, 4]


def test_a_text_that_would_be_both_is_valid() -> None:
    hashes = hashes_of(5, 6, 7, 8, 9, 1, 5, 7, 8, 9)
    sources = sources_of(0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
    splits = assign_splits(hashes, sources, 0.2, 0.2)
    assert splits[0] == splits[6] == VALID


def test_sources_of_one_document_each_are_counted_together() -> None:
    splits = assign_splits(np.arange(200, dtype=np.uint64)[::-1], np.arange(200, dtype=np.int32), 0.01, 0)
    assert np.flatnonzero(splits == VALID).tolist() == [198, 199]


def test_without_fractions_everything_is_train() -> None:
    assert not assign_splits(hashes_of(1, 2, 3), sources_of(0, 0, 1), 0, 0).any()


@given(
    documents=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=40, max_size=120),
    valid=st.sampled_from([0.0, 0.01, 0.1, 0.2]),
    test=st.sampled_from([0.0, 0.05, 0.1]),
)
def test_alike_texts_are_never_divided(documents: list[tuple[int, int]], valid: float, test: float) -> None:
    hashes = hashes_of(*(number for number, _ in documents))
    sources = sources_of(*(source for _, source in documents))
    try:
        splits = assign_splits(hashes, sources, valid, test)
    except BadDataError:
        return  # so many duplicates that nothing was left
    assert all(len(set(splits[hashes == number].tolist())) == 1 for number in set(hashes.tolist()))


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(BadDataError, match=r"nothing is left to train on: every document \(1\) was held out"):
        assign_splits(hashes_of(7), sources_of(0), 0.01, 0)


@pytest.mark.parametrize(
    ("valid", "test", "sentence"),
    [
        (-0.1, 0, r"valid fraction -0\.1: expected a number from 0 to below 1"),
        (0, 1, "test fraction 1: expected a number from 0 to below 1"),
        (float("nan"), 0, "valid fraction nan"),
        (0.5, 0.5, "leave nothing to train on; expected a sum below 1"),
    ],
)
def test_fractions_that_cannot_be_are_refused(valid: float, test: float, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        check_fractions(valid, test)
