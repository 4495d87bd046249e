"""What merge learning keeps of pairs: a table of their counts, and a queue of places, highest count first (compiled).

A pair is one number, left << 32 | right, so that the smaller number is the smaller pair.
"""

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.compiled import Array, Int, compiled, compiled_inner

_FREE = np.int64(-1)


Counts = tuple[NDArray[np.int64], NDArray[np.int64]]


def pair_table(capacity: int) -> Counts:
    """An empty table of counts: keys and values; ``capacity`` is a power of two."""
    return np.full(capacity, _FREE, np.int64), np.zeros(capacity, np.int64)


def larger_table(keys: NDArray[np.int64], values: NDArray[np.int64]) -> Counts:
    """The same table with twice the room."""
    more_keys, more_values = pair_table(2 * len(keys))
    _copy_pairs(keys, values, more_keys, more_values)
    return more_keys, more_values


@compiled_inner
def pair_of(left: Int, right: Int) -> Int:
    """Two ids as one number."""
    return np.int64(left) << 32 | np.int64(right)


@compiled_inner
def table_slot(keys: Array, pair: Int) -> Int:
    """Where a pair is in the table, or the free slot where it belongs."""
    digest = np.uint64(pair) * np.uint64(0x9E3779B97F4A7C15)
    digest ^= digest >> np.uint64(32)
    mask = len(keys) - 1
    slot = np.int64(digest & np.uint64(mask))
    while keys[slot] != pair and keys[slot] != _FREE:
        slot = (slot + 1) & mask
    return slot


@compiled
def _copy_pairs(keys: Array, values: Array, more_keys: Array, more_values: Array) -> None:
    for slot in range(len(keys)):
        if keys[slot] != _FREE:
            to = table_slot(more_keys, keys[slot])
            more_keys[to] = keys[slot]
            more_values[to] = values[slot]


@compiled_inner
def push(queue: Array, used: Int, count: Int, pair: Int, start: Int, length: Int) -> None:
    """Adds an entry of the pair's places to the queue, a binary heap of ``used`` rows."""
    at = used
    while at > 0:
        above = (at - 1) >> 1
        if not _before(count, pair, queue[above, 0], queue[above, 1]):
            break
        _move(queue, at, above)
        at = above
    _set(queue, at, count, pair, start, length)


@compiled_inner
def lower(queue: Array, used: Int, count: Int, pair: Int, start: Int, length: Int) -> None:
    """Puts an entry into the place of the first one and moves it down to where it belongs."""
    at = 0
    while True:
        below = 2 * at + 1
        if below >= used:
            break
        if below + 1 < used and _before(queue[below + 1, 0], queue[below + 1, 1], queue[below, 0], queue[below, 1]):
            below += 1
        if not _before(queue[below, 0], queue[below, 1], count, pair):
            break
        _move(queue, at, below)
        at = below
    _set(queue, at, count, pair, start, length)


@compiled_inner
def _before(count: Int, pair: Int, other_count: Int, other_pair: Int) -> bool:
    """Higher counts first; of equal counts the smaller pair: HF's order."""
    return bool(count > other_count or (count == other_count and pair < other_pair))


@compiled_inner
def _move(queue: Array, to: Int, at: Int) -> None:
    _set(queue, to, queue[at, 0], queue[at, 1], queue[at, 2], queue[at, 3])


@compiled_inner
def _set(queue: Array, at: Int, count: Int, pair: Int, start: Int, length: Int) -> None:
    queue[at, 0] = count
    queue[at, 1] = pair
    queue[at, 2] = start
    queue[at, 3] = length
