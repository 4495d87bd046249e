"""Documents with equal keys, found bucket by bucket, so that memory does not grow with the number of documents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Keys = NDArray[np.uint64]

# A document is compared with so many that follow it in its group, and with the group's first.
_NEIGHBOURS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """Documents of one bucket in which documents with one key stand together, in ascending order.

    Attributes:
        documents: Their numbers, (n,) int64; keys that only one document has are left out.
        groups: The index at which the group of each begins, (n,) int64.
    """

    documents: Numbers
    groups: Numbers

    def pairs(self, most: int) -> Iterator[tuple[Numbers, Numbers]]:
        """Pairs of a group, at most ``most`` at a time: all of a group of up to nine, and of a larger one those of
        neighbours and of each with the first, so that the number of pairs grows no faster than the documents."""
        index = np.arange(len(self.documents))
        for lag in range(1, _NEIGHBOURS + 1):
            later = index[lag:][self.groups[lag:] == self.groups[:-lag]]
            yield from self._pieces(later - lag, later, most)
        far = index[index - self.groups > _NEIGHBOURS]
        yield from self._pieces(self.groups[far], far, most)

    def _pieces(self, left: Numbers, right: Numbers, most: int) -> Iterator[tuple[Numbers, Numbers]]:
        for first in range(0, len(left), most):
            piece = slice(first, first + most)
            yield self.documents[left[piece]], self.documents[right[piece]]


def equal_keys(
    read: Callable[[], Iterator[tuple[int, Keys]]],
    documents: int,
    active: NDArray[np.bool_],
    bucket_documents: int,
) -> Iterator[Grouped]:
    """Yields the documents that share a key with another one, bucket by bucket.

    Args:
        read: Begins a new pass over all keys: (number of the first document, keys (n, columns) uint64).
        documents: How many keys about there are; decides the number of passes.
        active: Whether a document takes part, (documents,) bool.
        bucket_documents: How many keys are sorted at once, about.
    """
    buckets = max(1, -(-documents // bucket_documents))
    for bucket in range(buckets):
        keys, numbers = _bucket(read(), active, bucket, buckets)
        order = np.lexsort(keys.T)  # stable, so that the documents of a group stay in ascending order
        keys, numbers = keys[order], numbers[order]
        new = np.concatenate(([True], (keys[1:] != keys[:-1]).any(axis=1)))[: len(keys)]
        alone = new & np.concatenate((new[1:], [True]))[: len(keys)]
        numbers, new = numbers[~alone], new[~alone]
        groups = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
        yield Grouped(numbers, groups)


def _bucket(
    blocks: Iterator[tuple[int, Keys]], active: NDArray[np.bool_], bucket: int, buckets: int
) -> tuple[Keys, Numbers]:
    keys, numbers = list[Keys](), list[Numbers]()
    for first, block in blocks:
        taken = active[first : first + len(block)].copy()
        if buckets > 1:
            taken &= block[:, 0] % np.uint64(buckets) == np.uint64(bucket)
        keys.append(block[taken])
        numbers.append(first + np.flatnonzero(taken))
    return np.concatenate(keys), np.concatenate(numbers)
