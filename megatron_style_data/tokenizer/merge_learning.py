"""Learns byte-level BPE merges from counted pieces: HF tokenizers' merges, in a fraction of its time and memory.

Pieces lie side by side in one array of ids. Of each pair that ever stood somewhere a table has the total count, and a
queue has the pieces where it arose. The first of the queue is merged in its pieces; the pairs that arise get counts and
places. Equal counts are decided as HF's BpeTrainer decides them, so that the merges are equal to the last one; tests
hold the two against each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.merge_queue import larger_table, pair_table
from megatron_style_data.tokenizer.merge_steps import (
    EXHAUSTED,
    MERGES,
    PAIRS,
    PLACES,
    QUEUED,
    REACHED,
    REGISTERS,
    TALLIES,
    TOKENS,
    byte_pairs,
    lay_out,
    learn_some,
)
from megatron_style_data.tokenizer.pretokens import Pretokens

Row = TypeVar("Row", bound=np.generic)

_MOST_CONTENT_BYTES = (1 << 31) - 1
# Tokens between two calls of ``on_progress``.
_ROUND = 256


@dataclass(frozen=True, slots=True)
class Merges:
    """What was learned.

    Attributes:
        tokens: The bytes of each token, by id: first those that were given, then one a merge.
        merges: (left id, right id) in the order in which they were learned.
    """

    tokens: list[bytes]
    merges: list[tuple[int, int]]


@dataclass(slots=True)
class State:
    """The arrays that ``merge_steps`` works on; ``queue`` and the table grow.

    Attributes:
        registers: How much of the others is used (``merge_steps.TOKENS`` …).
        sizes: (tokens,) bytes of each token.
        ids: (bytes of the pieces + pieces + 1,) the pieces side by side, between border ids; those that occur often
            first.
        zone_starts, zone_counts: Where in ``ids`` begin the pieces that occur so often, highest count first.
        places: Positions in ``ids``; an entry of the queue names a stretch of it. There is room for all that can come,
            two a merge; pages that are never written take no memory.
        tallies: (2, tokens, TALLIES) what is counted of each neighbour within one merge, on the left and on the right.
        neighbours: (2, tokens) the neighbours within one merge.
        found: (2, most, 2) neighbour and place within one merge.
        queue: (entries, 4) binary heap of count, pair, start and length in ``places``.
        keys, values: Hash table of the count of each pair.
        merges: (tokens, 2) what was learned.
    """

    registers: NDArray[np.int64]
    sizes: NDArray[np.int32]
    ids: NDArray[Any]
    zone_starts: NDArray[np.int64]
    zone_counts: NDArray[np.int64]
    places: NDArray[np.int32]
    tallies: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    found: NDArray[np.int32]
    queue: NDArray[np.int64]
    keys: NDArray[np.int64]
    values: NDArray[np.int64]
    merges: NDArray[np.int32]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All of them, in the order that ``learn_some`` takes them."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def make_room(self) -> None:
        """Lets the arrays grow so that at least one more merge fits."""
        tokens = len(self.sizes)
        if self.registers[QUEUED] + 2 * tokens > len(self.queue):
            self.queue = _taller(self.queue, len(self.queue) * 3 // 2 + 2 * tokens)
        while 2 * (self.registers[PAIRS] + 4 * tokens) > len(self.keys):
            self.keys, self.values = larger_table(self.keys, self.values)


def learn_merges(
    pretokens: Pretokens,
    first_tokens: Sequence[bytes],
    byte_ids: Sequence[int],
    vocab_size: int,
    on_progress: Callable[[float], None] | None = None,
) -> Merges:
    """Learns merges until there are ``vocab_size`` tokens or nothing is left to merge.

    Args:
        pretokens: The counted pieces.
        first_tokens: Bytes of the tokens that are there already, by id.
        byte_ids: The id of each of the 256 bytes.
        vocab_size: Tokens wanted, at least as many as ``first_tokens``.
        on_progress: Called now and then with about the share of the work that is done.

    Raises:
        SettingError: More distinct pieces than this counts.
    """
    if len(pretokens.content) > _MOST_CONTENT_BYTES:
        raise SettingError(
            f"the sample has {len(pretokens.content):,} bytes of distinct pieces, more than {_MOST_CONTENT_BYTES:,}; "
            f"take a smaller sample."
        )
    state = _begin(pretokens, np.array(byte_ids, np.int32), vocab_size)
    state.registers[TOKENS] = reached = len(first_tokens)
    outcome = REACHED
    while reached < vocab_size and outcome != EXHAUSTED:
        state.make_room()
        outcome = learn_some(min(vocab_size, reached + _ROUND), vocab_size, *state.arrays())
        reached = int(state.registers[TOKENS])
        if on_progress is not None:
            on_progress(_share_done(state, reached, vocab_size))
    merges = [(left, right) for left, right in state.merges[: state.registers[MERGES]].tolist()]
    tokens = list(first_tokens)
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return Merges(tokens, merges)


def _begin(pretokens: Pretokens, byte_ids: NDArray[np.int32], vocab_size: int) -> State:
    order = np.argsort(-pretokens.counts, kind="stable")
    ids = np.empty(len(pretokens.content) + len(pretokens) + 1, np.uint16 if vocab_size < 1 << 16 - 1 else np.int32)
    lay_out(pretokens.content, pretokens.starts, order, byte_ids, vocab_size, ids)
    zone_starts, zone_counts = _zones(pretokens, order)
    keys, values = pair_table(1 << 18)
    state = State(
        registers=np.zeros(REGISTERS, np.int64),
        sizes=np.ones(vocab_size, np.int32),
        ids=ids,
        zone_starts=zone_starts,
        zone_counts=zone_counts,
        places=np.empty(3 * len(ids), np.int32),
        tallies=np.zeros((2, vocab_size, TALLIES), np.int64),
        neighbours=np.empty((2, vocab_size), np.int32),
        found=np.empty((2, len(ids), 2), np.int32),
        queue=np.empty((1 << 16, 4), np.int64),
        keys=keys,
        values=values,
        merges=np.empty((vocab_size, 2), np.int32),
    )
    width = int(byte_ids.max()) + 1
    totals, ends = np.zeros(width * width, np.int64), np.zeros(width * width, np.int64)
    byte_pairs(
        ids,
        zone_starts,
        zone_counts,
        vocab_size,
        width,
        totals,
        ends,
        state.registers,
        state.places,
        state.queue,
        keys,
        values,
    )
    return state


def _zones(pretokens: Pretokens, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where in the order of falling counts each count begins, as a position in ``State.ids``, and the count."""
    counts = pretokens.counts[order]
    first = np.flatnonzero(np.diff(counts, prepend=counts[:1] + 1))
    lengths = np.diff(pretokens.starts)[order] + 1
    return 1 + np.cumsum(lengths)[first] - lengths[first], counts[first]


def _share_done(state: State, tokens: int, vocab_size: int) -> float:
    """About how much of the work is done: the first merges have by far the most places.

    Each merge that was made left about two places. Of the bytes of Chinese text about three quarters are merged away.
    """
    merged = (state.registers[PLACES] - len(state.ids)) / (2 * 0.75 * len(state.ids))
    return 0.8 * min(1.0, max(0.0, float(merged))) + 0.2 * tokens / vocab_size


def _taller(array: NDArray[Row], rows: int) -> NDArray[Row]:
    larger = np.empty((rows, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
