"""Documents with equal keys, and the pairs that are compared of them."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from megatron_style_data.deduplication.equal_keys import Grouped, equal_keys

KEYS = np.random.default_rng(0).integers(0, 30, (200, 2), np.uint64)


def blocks() -> Iterator[tuple[int, NDArray[np.uint64]]]:
    for first in range(0, 200, 64):
        yield first, KEYS[first : first + 64]


def groups_of(found: Iterator[Grouped]) -> set[tuple[int, ...]]:
    groups: set[tuple[int, ...]] = set()
    for grouped in found:
        for start in np.unique(grouped.groups):
            groups.add(tuple(grouped.documents[grouped.groups == start].tolist()))
    return groups


@pytest.mark.parametrize("bucket_documents", [1000, 50, 7])
def test_groups_are_the_same_in_one_bucket_and_in_many(bucket_documents: int) -> None:
    active = np.arange(200) % 9 != 0
    by_key: dict[tuple[int, ...], list[int]] = {}
    for number in np.flatnonzero(active).tolist():
        by_key.setdefault(tuple(KEYS[number].tolist()), []).append(number)
    expected = {tuple(numbers) for numbers in by_key.values() if len(numbers) > 1}
    assert len(expected) > 5
    assert groups_of(equal_keys(blocks, 200, active, bucket_documents)) == expected


def test_no_active_document_gives_no_group() -> None:
    assert groups_of(equal_keys(blocks, 200, np.zeros(200, bool), 50)) == set()


def pairs_of(sizes: list[int], most: int) -> list[tuple[int, int]]:
    documents = np.arange(10, 10 + sum(sizes))
    starts = np.repeat(np.cumsum(sizes, dtype=np.int64) - np.array(sizes, np.int64), sizes)
    pairs = Grouped(documents, starts).pairs(most)
    return [pair for left, right in pairs for pair in zip(left.tolist(), right.tolist(), strict=True)]


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_small_groups_are_compared_in_all_pairs(most: int) -> None:
    expected = [*combinations(range(10, 12), 2), *combinations(range(12, 17), 2), *combinations(range(17, 26), 2)]
    assert sorted(pairs_of([2, 5, 9], most)) == sorted(expected)


def test_large_groups_are_compared_with_neighbours_and_their_first() -> None:
    pairs = pairs_of([2, 1000], 100)
    assert len(pairs) == len(set(pairs)) < 1 + 9 * 1000
    assert all((12, other) in set(pairs) for other in range(13, 1012))
    assert all((other, other + 1) in set(pairs) for other in range(12, 1011))
    assert (11, 12) not in pairs
