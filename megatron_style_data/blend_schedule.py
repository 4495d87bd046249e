"""Which source gives sample k of a blend, and its how-manieth sample that is: a closed form of k, in whole numbers.

Two sources with shares p and 1 - p: of the first n samples the first source gives round(n * p), halves up, so sample k
is its own where that number grows from n = k to n = k + 1, and its cursor is the number itself. More sources are a tree
of such pairs (Huffman's tree over the weights, so that every path is short): a sample walks from the root to a leaf,
its number counted anew at each turn. Nothing is stored, any sample is reached in O(log sources), and the inverse
question, how many samples each source gave before sample k, is the same walk.

In Huffman's tree the shares along a path, two edges multiplied, stay below 1/2, and rounding moves the count of a
window by less than one sample an edge; so in every window of samples inside a phase, wherever it begins and however
long it is, a source's count differs from its share by less than 4 samples: under 1e-3 of a window of 4,096. A share is
a fraction of whole numbers below 2**30; nothing drifts, however long the run.
"""

import bisect
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_style_data.errors import SettingError

# n * share is computed from n = q * denominator + r as q * numerator + (2 * r * numerator + denominator) // ...: with
# this bound no product leaves int64, whatever n.
_LARGEST_DENOMINATOR = 1 << 30
# Below this a weight is more likely a slip than a wish.
_SMALLEST_SHARE = Fraction(1, 10**8)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of samples with one set of weights.

    Attributes:
        first_sample: Where it begins; it ends where the next one begins.
        weights: One a source, >= 0, in any unit; 0: the source is not read.
    """

    first_sample: int
    weights: tuple[Fraction, ...]

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The weights over their sum."""
        total = sum(self.weights, Fraction(0))
        return tuple(weight / total for weight in self.weights)


@dataclass(frozen=True, slots=True)
class _Leaf:
    source: int


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two subtrees; the left one has the share numerator / denominator of this node's samples."""

    left: "_Tree"
    right: "_Tree"
    numerator: int
    denominator: int

    def left_before(self, n: int) -> int:
        """round(n * share), halves up: how many of this node's first n samples are the left subtree's."""
        return (2 * n * self.numerator + self.denominator) // (2 * self.denominator)

    def left_before_each(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """`left_before` of many numbers, (n,)."""
        whole, rest = np.divmod(numbers, self.denominator)
        rounded = (2 * rest * self.numerator + self.denominator) // (2 * self.denominator)
        counts: NDArray[np.int64] = whole * self.numerator + rounded
        return counts


_Tree = _Leaf | _Pair


@dataclass(frozen=True)
class BlendSchedule:
    """The order of a blend; frozen and without state, so that ranks and threads may share it.

    Attributes:
        phases: At least one; the first begins at sample 0, each later one after the one before it.
    """

    phases: tuple[Phase, ...]
    _first_samples: tuple[int, ...] = field(init=False, repr=False)
    _trees: tuple[_Tree, ...] = field(init=False, repr=False)
    _cursors: tuple[tuple[int, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.phases)
        cursors = [(0,) * self.sources]
        trees = [_huffman(phase.weights) for phase in self.phases]
        for tree, phase, following in zip(trees, self.phases, self.phases[1:], strict=False):
            given = _counts(tree, following.first_sample - phase.first_sample, self.sources)
            cursors.append(tuple(before + count for before, count in zip(cursors[-1], given, strict=True)))
        object.__setattr__(self, "_first_samples", tuple(phase.first_sample for phase in self.phases))
        object.__setattr__(self, "_trees", tuple(trees))
        object.__setattr__(self, "_cursors", tuple(cursors))

    @property
    def sources(self) -> int:
        """How many sources there are."""
        return len(self.phases[0].weights)

    def counts_before(self, sample: int) -> tuple[int, ...]:
        """How many of the samples [0, sample) each source gives: the per-source cursors of a run that stands there."""
        number = bisect.bisect_right(self._first_samples, sample) - 1
        given = _counts(self._trees[number], sample - self._first_samples[number], self.sources)
        return tuple(before + count for before, count in zip(self._cursors[number], given, strict=True))

    def locate(self, sample_ids: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source and cursor of each sample.

        Args:
            sample_ids: (n,) integers >= 0 in any order.

        Returns:
            (n,) number of the source, and (n,) which of the source's samples it is, from 0 and without a gap.
        """
        numbers = np.asarray(sample_ids, dtype=np.int64)
        if numbers.size and numbers.min() < 0:
            raise IndexError(f"sample numbers start at 0, got {numbers.min()}")
        sources, cursors = np.empty_like(numbers), np.empty_like(numbers)
        phases = np.searchsorted(self._first_samples, numbers, side="right") - 1
        for phase in np.unique(phases).tolist():
            rows = np.flatnonzero(phases == phase)
            _walk(self._trees[phase], numbers[rows] - self._first_samples[phase], rows, sources, cursors)
            cursors[rows] += np.asarray(self._cursors[phase], np.int64)[sources[rows]]
        return sources, cursors


def _check(phases: Sequence[Phase]) -> None:
    if not phases or phases[0].first_sample != 0:
        raise SettingError("a blend begins with a phase at sample 0.")
    for before, phase in itertools.pairwise(phases):
        if phase.first_sample <= before.first_sample:
            raise SettingError(
                f"the phase of a blend at sample {phase.first_sample} does not come after the one before it, at sample "
                f"{before.first_sample}; order the phases by where they begin."
            )
    for phase in phases:
        total = sum(phase.weights, Fraction(0))
        if len(phase.weights) != len(phases[0].weights) or min(phase.weights, default=Fraction(-1)) < 0 or total <= 0:
            raise SettingError(
                f"the phase of a blend at sample {phase.first_sample} needs a weight of at least 0 for each source and one "
                f"above 0, found {', '.join(str(float(weight)) for weight in phase.weights) or 'none'}."
            )
        for number, weight in enumerate(phase.weights):
            if 0 < weight < _SMALLEST_SHARE * total:
                raise SettingError(
                    f"source number {number + 1} has {float(weight / total):.1e} of the phase of a blend at sample "
                    f"{phase.first_sample}: less than one sample in a hundred million; leave it out, or give it more."
                )


def _huffman(weights: Sequence[Fraction]) -> _Tree:
    """Joins the two lightest trees until one is left; of equal ones those that came first. Weight 0: not in it."""
    heap: list[tuple[Fraction, int, _Tree]] = []
    for source, weight in enumerate(weights):
        if weight > 0:
            heap.append((weight, len(heap), _Leaf(source)))
    heapq.heapify(heap)
    made = len(heap)
    while len(heap) > 1:
        light, _, right = heapq.heappop(heap)
        heavy, _, left = heapq.heappop(heap)
        share = (heavy / (heavy + light)).limit_denominator(_LARGEST_DENOMINATOR)
        heapq.heappush(heap, (heavy + light, made, _Pair(left, right, share.numerator, share.denominator)))
        made += 1
    return heap[0][2]


def _counts(tree: _Tree, n: int, sources: int) -> list[int]:
    """How many of a tree's first n samples each source gives; they add up to n."""
    counts = [0] * sources
    waiting = [(tree, n)]
    while waiting:
        node, here = waiting.pop()
        if isinstance(node, _Leaf):
            counts[node.source] = here
            continue
        left = node.left_before(here)
        waiting += [(node.left, left), (node.right, here - left)]
    return counts


def _walk(
    tree: _Tree,
    numbers: NDArray[np.int64],
    rows: NDArray[np.int64],
    sources: NDArray[np.int64],
    cursors: NDArray[np.int64],
) -> None:
    """Sends sample `numbers` of the tree to their leaves, and writes what is found there at `rows`."""
    waiting = [(tree, numbers, rows)]
    while waiting:
        node, here, places = waiting.pop()
        if len(places) == 0:
            continue
        if isinstance(node, _Leaf):
            sources[places], cursors[places] = node.source, here
            continue
        left = node.left_before_each(here)
        goes_left = node.left_before_each(here + 1) > left
        waiting.append((node.left, left[goes_left], places[goes_left]))
        waiting.append((node.right, (here - left)[~goes_left], places[~goes_left]))
