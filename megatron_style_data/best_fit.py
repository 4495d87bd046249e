"""Best-fit-decreasing packing: which pieces of text share a sample, so that next to nothing is left empty.

From the largest to the smallest, each piece goes into the bin with the least room that still takes it, or into a new
one (Johnson, "Near-optimal bin packing algorithms", 1973; for language models: Ding et al., "Fewer truncations improve
language modeling", 2024). With sizes between 1 and C there are only C kinds of room: bins of equal room lie on a stack,
a bitmap of two levels says which stacks hold any, so a piece costs the same however many bins there are.

Compiled by numba when it is first called; only packing imports this module.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# An odd constant whose products with the powers of two all differ in their highest six bits (de Bruijn, 1946).
_DE_BRUIJN = 0x03F79D71B4CB0A89


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Pieces by bin; bins ordered by the room left in them, full ones first.

    Attributes:
        starts: (bins + 1,) int64, where each bin begins in `pieces`; at the end, the number of pieces.
        pieces: (pieces,) uint32, the pieces' names, one bin after the other, descending in size within a bin.
        by_room: (capacity,) int64, `by_room[room]` bins have at most `room` left.
    """

    starts: NDArray[np.int64]
    pieces: NDArray[np.uint32]
    by_room: NDArray[np.int64]


def pack_best_fit(sizes: NDArray[np.int32], names: NDArray[np.uint32], capacity: int) -> Bins:
    """Packs pieces into bins, best fit decreasing; of equal pieces the first goes first.

    Args:
        sizes: (pieces,) each from 1 to `capacity`.
        names: (pieces,) what stands for each piece in the result.
        capacity: Of every bin.
    """
    order, ends = _descending(sizes, capacity)
    bins, rooms = _bins(ends, capacity, _trailing_zeros_table())
    return Bins(*_by_bin(bins, names[order], rooms, capacity))


def plain_best_fit(sizes: NDArray[np.int32], capacity: int) -> list[int]:
    """The same by looking at every bin for every piece: the room left in each bin, ascending."""
    rooms: list[int] = []
    for size in sorted(sizes.tolist(), reverse=True):
        fitting = [number for number, room in enumerate(rooms) if room >= size]
        if fitting:
            rooms[min(fitting, key=rooms.__getitem__)] -= size
        else:
            rooms.append(capacity - size)
    return sorted(rooms)


def _trailing_zeros_table() -> NDArray[np.int64]:
    table = np.empty(64, np.int64)
    for bit in range(64):
        table[(_DE_BRUIJN << bit & (1 << 64) - 1) >> 58] = bit
    return table


# From here on: compiled. Types are left to numba; a cache on the disk would be written into the installed package.


@njit(nogil=True)
def _descending(sizes: Any, capacity: Any) -> Any:
    """Numbers of the pieces, largest first (counting sort), and where the pieces of size capacity - i end."""
    places = np.zeros(capacity + 2, np.int64)
    for size in sizes:
        places[capacity - size + 1] += 1
    for rank in range(1, capacity + 2):
        places[rank] += places[rank - 1]
    order = np.empty(len(sizes), np.uint32)
    for piece in range(len(sizes)):
        rank = capacity - sizes[piece]
        order[places[rank]] = piece
        places[rank] += 1
    return order, places


@njit(nogil=True)
def _lowest_bit(word: Any, zeros: Any) -> Any:
    return zeros[((word & (~word + np.uint64(1))) * np.uint64(_DE_BRUIJN)) >> np.uint64(58)]


@njit(nogil=True)
def _least_room(size: Any, words: Any, groups: Any, zeros: Any) -> Any:
    """The least room >= size that a bin has, or -1. Bit r of `words`: some bin has room r; bit w of `groups`: word w is
    not zero."""
    word = size >> 6
    bits = words[word] >> np.uint64(size & 63)
    if bits:
        return size + _lowest_bit(bits, zeros)
    word += 1
    group = word >> 6
    if group >= len(groups):
        return -1
    bits = groups[group] >> np.uint64(word & 63)
    if bits:
        word += _lowest_bit(bits, zeros)
    else:
        group += 1
        while group < len(groups) and groups[group] == 0:
            group += 1
        if group == len(groups):
            return -1
        word = (group << 6) + _lowest_bit(groups[group], zeros)
    return (word << 6) + _lowest_bit(words[word], zeros)


@njit(nogil=True)
def _bins(ends: Any, capacity: Any, zeros: Any) -> Any:
    """The bin of each piece, pieces in descending order, and the room left in each bin."""
    one = np.uint64(1)
    words = np.zeros((capacity >> 6) + 1, np.uint64)
    groups = np.zeros((len(words) >> 6) + 1, np.uint64)
    top = np.full(capacity + 1, -1, np.int64)  # the bin on top of the stack of each room
    below = np.empty(ends[capacity - 1], np.uint32)  # the bin under a bin on its stack, plus one
    bins = np.empty(ends[capacity - 1], np.uint32)
    count, place = 0, 0
    for size in range(capacity, 0, -1):
        while place < ends[capacity - size]:
            room = _least_room(size, words, groups, zeros)
            if room < 0:
                chosen, room = count, capacity
                count += 1
            else:
                chosen = int(top[room])
                top[room] = int(below[chosen]) - 1
                if top[room] < 0:
                    words[room >> 6] ^= one << np.uint64(room & 63)
                    if words[room >> 6] == 0:
                        groups[room >> 12] ^= one << np.uint64((room >> 6) & 63)
            bins[place] = chosen
            place += 1
            room -= size
            if room:
                below[chosen] = top[room] + 1
                top[room] = chosen
                words[room >> 6] |= one << np.uint64(room & 63)
                groups[room >> 12] |= one << np.uint64((room >> 6) & 63)
    rooms = np.zeros(count, np.int32)  # full bins are on no stack
    for room in range(1, capacity + 1):
        chosen = int(top[room])
        while chosen >= 0:
            rooms[chosen] = room
            chosen = int(below[chosen]) - 1
    return bins, rooms


@njit(nogil=True)
def _by_bin(bins: Any, names: Any, rooms: Any, capacity: Any) -> Any:
    """Bins renumbered by the room left, ascending, and the names of their pieces one bin after the other."""
    by_room = np.zeros(capacity + 1, np.int64)
    for room in rooms:
        by_room[room + 1] += 1
    for room in range(1, capacity + 1):
        by_room[room] += by_room[room - 1]
    numbers = np.empty(len(rooms), np.uint32)
    for old in range(len(rooms)):
        numbers[old] = by_room[rooms[old]]
        by_room[rooms[old]] += 1
    starts = np.zeros(len(rooms) + 1, np.int64)
    for old in bins:
        starts[numbers[old] + np.int64(1)] += 1
    for number in range(len(rooms)):
        starts[number + 1] += starts[number]
    places = starts[:-1].copy()
    pieces = np.empty(len(bins), np.uint32)
    for piece in range(len(bins)):
        number = numbers[bins[piece]]
        pieces[places[number]] = names[piece]
        places[number] += 1
    return starts, pieces, by_room[:capacity]
