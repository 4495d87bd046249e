"""Connected documents."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_style_data.deduplication.components import Components


def by_hand(documents: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest document of each one's component, by painting."""
    smallest = list(range(documents))
    changed = True
    while changed:
        changed = False
        for left, right in pairs:
            low = min(smallest[left], smallest[right])
            changed |= smallest[left] != low or smallest[right] != low
            smallest[left] = smallest[right] = low
    return smallest


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40), st.integers(1, 10))
def test_roots_are_the_smallest_documents_however_pairs_are_dealt_out(pairs: list[tuple[int, int]], size: int) -> None:
    components = Components(20)
    for first in range(0, len(pairs), size):
        left, right = np.array(pairs[first : first + size], np.int64).T
        components.join(left, right)
    assert components.roots(np.arange(20)).tolist() == by_hand(20, pairs)
    components.flatten()
    assert components.roots(np.arange(20)).tolist() == by_hand(20, pairs)


def test_a_long_chain_is_one_component() -> None:
    components = Components(10_000)
    numbers = np.arange(9_999)
    components.join(numbers, numbers + 1)
    assert not components.roots(np.arange(10_000)).any()
