"""The compiled steps of merge learning: the pairs of bytes at the start, then one merge after another.

Arrays are those of ``merge_learning.State``. A token stands at its first byte in ``ids`` and, so that it can be found
from behind, at its last; what is between means nothing. Two merges never give the same token: where a token stands,
nothing ever crossed its borders, so that its bytes were always merged in the same way.
"""

import numpy as np

from megatron_style_data.tokenizer.compiled import Array, Int, compiled, compiled_inner
from megatron_style_data.tokenizer.merge_queue import lower, pair_of, push, table_slot

# Entries of ``registers``: how many tokens, merges, pairs in the table, entries of the queue and places there are; then,
# of the merge at hand, how many places were found and how many distinct neighbours, on the left and on the right.
TOKENS, MERGES, PAIRS, QUEUED, PLACES, _FOUND, _NEIGHBOURS, REGISTERS = 0, 1, 2, 3, 4, 5, 7, 9
# Why ``learn_some`` came back: the tokens asked for are there, an array is full, nothing is left to merge.
REACHED, FULL, EXHAUSTED = range(3)
# Entries of ``tallies`` for each neighbour on a side: how often it stood there, at how many places, where the next of
# them goes.
_COUNT, _PLACES, _NEXT, TALLIES = range(4)
_LEFT, _RIGHT = range(2)


@compiled
def lay_out(content: Array, starts: Array, order: Array, byte_ids: Array, border: Int, ids: Array) -> None:
    """Writes the pieces side by side as ids of bytes, in an order, each between two ``border`` ids."""
    ids[0] = border
    write = np.int64(1)
    for piece in order:
        for at in range(starts[piece], starts[piece + 1]):
            ids[write] = byte_ids[content[at]]
            write += 1
        ids[write] = border
        write += 1


@compiled
def byte_pairs(
    ids: Array,
    zone_starts: Array,
    zone_counts: Array,
    border: Int,
    width: Int,
    totals: Array,
    ends: Array,
    registers: Array,
    places: Array,
    queue: Array,
    keys: Array,
    values: Array,
) -> None:
    """Counts the pairs of bytes and queues them with their places.

    ``totals`` and ``ends`` are zeros for width * width pairs; every id of a byte is below ``width``.
    """
    for at in range(len(ids) - 1):
        if ids[at] != border and ids[at + 1] != border:
            pair = np.int64(ids[at]) * width + ids[at + 1]
            totals[pair] += _count_at(zone_starts, zone_counts, at)
            ends[pair] += 1
    start = np.int64(0)
    for pair in range(len(ends)):
        length = ends[pair]
        ends[pair] = start
        if length > 0:
            key = pair_of(pair // width, pair % width)
            _add(keys, values, registers, key, totals[pair])
            push(queue, registers[QUEUED], totals[pair], key, start, length)
            registers[QUEUED] += 1
        start += length
    registers[PLACES] = start
    for at in range(len(ids) - 1):
        if ids[at] != border and ids[at + 1] != border:
            pair = np.int64(ids[at]) * width + ids[at + 1]
            places[ends[pair]] = at
            ends[pair] += 1


@compiled
def learn_some(
    wanted: Int, border: Int, registers: Array, sizes: Array, ids: Array, zone_starts: Array, zone_counts: Array,
    places: Array, tallies: Array, neighbours: Array, found: Array, queue: Array, keys: Array, values: Array, merges: Array,
) -> Int:  # fmt: skip
    """Learns merges until there are ``wanted`` tokens or an array has no room for one more."""
    most = neighbours.shape[1]
    while registers[TOKENS] < wanted:
        count, pair, start, length = queue[0, 0], queue[0, 1], queue[0, 2], queue[0, 3]
        if registers[QUEUED] == 0:
            return EXHAUSTED
        current = values[table_slot(keys, pair)]
        if count != current:
            lower(queue, registers[QUEUED], current, pair, start, length)
            continue
        if count < 1:
            return EXHAUSTED
        if 2 * (registers[PAIRS] + 4 * most) > len(keys) or registers[QUEUED] + 2 * most > len(queue):
            return FULL
        registers[QUEUED] -= 1
        last = registers[QUEUED]
        lower(queue, last, queue[last, 0], queue[last, 1], queue[last, 2], queue[last, 3])
        left, right, both = pair >> 32, pair & 0xFFFFFFFF, registers[TOKENS]
        sizes[both] = sizes[left] + sizes[right]
        merges[registers[MERGES], 0], merges[registers[MERGES], 1] = left, right
        registers[TOKENS] += 1
        registers[MERGES] += 1
        for index in range(start, start + length):
            at = np.int64(places[index])
            if ids[at] == left and ids[at + sizes[left]] == right:
                times = _count_at(zone_starts, zone_counts, at)
                _merge(ids, at, left, right, both, border, sizes, times, registers, tallies, neighbours, found)
        _recount(left, right, both, registers, tallies, neighbours, keys, values)
        for side in range(2):
            _queue_side(side, both, registers, places, tallies, neighbours, found, queue, keys, values)
    return REACHED


@compiled_inner
def _count_at(zone_starts: Array, zone_counts: Array, at: Int) -> Int:
    """How often the piece occurs that lies there: pieces are ordered by it, and most occur once."""
    low, high = 0, len(zone_starts) - 1
    if at >= zone_starts[high]:
        return zone_counts[high]
    while high - low > 1:
        middle = (low + high) >> 1
        if at >= zone_starts[middle]:
            low = middle
        else:
            high = middle
    return zone_counts[low]


@compiled_inner
def _merge(
    ids: Array,
    at: Int,
    left: Int,
    right: Int,
    both: Int,
    border: Int,
    sizes: Array,
    times: Int,
    registers: Array,
    tallies: Array,
    neighbours: Array,
    found: Array,
) -> None:
    """Merges a pair where it stands, and notes what stands before and after."""
    middle = at + sizes[left]
    end = middle + sizes[right]
    before, after = ids[at - 1], ids[end]
    ids[middle] = border + 1  # nothing begins here any more
    ids[at] = both
    ids[end - 1] = both
    if before != border:
        _note(_LEFT, before, at - sizes[before], times, registers, tallies, neighbours, found)
    if after != border:
        _note(_RIGHT, after, at, times, registers, tallies, neighbours, found)


@compiled_inner
def _note(
    side: Int, other: Int, place: Int, times: Int, registers: Array, tallies: Array, neighbours: Array, found: Array
) -> None:
    """Counts a neighbour on a side, and lists the place of the pair that arises."""
    if tallies[side, other, _PLACES] == 0:
        neighbours[side, registers[_NEIGHBOURS + side]] = other
        registers[_NEIGHBOURS + side] += 1
    tallies[side, other, _COUNT] += times
    tallies[side, other, _PLACES] += 1
    found[side, registers[_FOUND + side], 0] = other
    found[side, registers[_FOUND + side], 1] = place
    registers[_FOUND + side] += 1


@compiled_inner
def _recount(
    left: Int, right: Int, both: Int, registers: Array, tallies: Array, neighbours: Array, keys: Array, values: Array
) -> None:
    """Takes what was merged from the pairs that stood there and adds it to those that arose."""
    for side in range(2):
        for index in range(registers[_NEIGHBOURS + side]):
            other = np.int64(neighbours[side, index])
            count = tallies[side, other, _COUNT]
            before = pair_of(other, left) if side == _LEFT else pair_of(right, other)
            after = pair_of(other, both) if side == _LEFT else pair_of(both, other)
            _add(keys, values, registers, before, -count)
            _add(keys, values, registers, after, count)


@compiled_inner
def _add(keys: Array, values: Array, registers: Array, pair: Int, count: Int) -> None:
    slot = table_slot(keys, pair)
    if keys[slot] != pair:
        keys[slot] = pair
        registers[PAIRS] += 1
    values[slot] += count


@compiled_inner
def _queue_side(
    side: Int,
    both: Int,
    registers: Array,
    places: Array,
    tallies: Array,
    neighbours: Array,
    found: Array,
    queue: Array,
    keys: Array,
    values: Array,
) -> None:
    """Queues the pairs that arose on a side with their places, and clears the side's tallies."""
    for index in range(registers[_NEIGHBOURS + side]):
        other = np.int64(neighbours[side, index])
        length = tallies[side, other, _PLACES]
        pair = pair_of(other, both) if side == _LEFT else pair_of(both, other)
        count = values[table_slot(keys, pair)]
        tallies[side, other, _NEXT] = registers[PLACES]
        if count > 0:  # (both, left) arises and goes again within a merge where the pair stands twice in a row
            push(queue, registers[QUEUED], count, pair, registers[PLACES], length)
            registers[QUEUED] += 1
        registers[PLACES] += length
    for index in range(registers[_FOUND + side]):
        other = found[side, index, 0]
        places[tallies[side, other, _NEXT]] = found[side, index, 1]
        tallies[side, other, _NEXT] += 1
    for index in range(registers[_NEIGHBOURS + side]):
        for entry in range(TALLIES):
            tallies[side, neighbours[side, index], entry] = 0
    registers[_NEIGHBOURS + side] = registers[_FOUND + side] = 0
