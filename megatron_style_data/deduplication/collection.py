"""The signature folders of all shards as one collection, whose documents are numbered through from 0."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.deduplication.shards import chosen_documents
from megatron_style_data.deduplication.signature_files import ShardSignatures, SignatureJob, open_signatures
from megatron_style_data.errors import BadDataError

Numbers = NDArray[np.int64]
_Rows = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """All documents.

    Attributes:
        jobs: The shards, in order.
        shards: Their signature folders.
        starts: Number of each shard's first document, and of all documents, (shards + 1,) int64.
    """

    jobs: Sequence[SignatureJob]
    shards: Sequence[ShardSignatures]
    starts: Numbers

    @property
    def documents(self) -> int:
        """How many there are."""
        return int(self.starts[-1])

    def lengths(self) -> NDArray[np.uint32]:
        """Folded characters of every document."""
        return np.concatenate([np.empty(0, np.uint32), *(shard.lengths() for shard in self.shards)])

    def keys(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """(number of the first document, (documents, 2) keys) of one shard after the other."""
        for start, shard in zip(self.starts.tolist(), self.shards, strict=False):
            yield start, shard.keys()

    def band(self, band: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """(number of the first document, (documents, 1) keys of one band), block by block."""
        for start, shard in zip(self.starts.tolist(), self.shards, strict=False):
            for keys in shard.band(band):
                yield start, keys[:, None]
                start += len(keys)

    def shard_of(self, numbers: Numbers) -> Numbers:
        """The shard of each document."""
        return np.searchsorted(self.starts, numbers, side="right") - 1

    def places(self, numbers: Numbers) -> NDArray[np.uint64]:
        """Line or row of each document in its shard's file."""
        return self._gather(numbers, lambda shard, local: shard.places()[local], np.empty(len(numbers), np.uint64))

    def estimates(self, left: Numbers, right: Numbers) -> NDArray[np.float64]:
        """Estimated similarity of each pair: the share of equal signature values."""
        numbers, where = np.unique(np.concatenate((left, right)), return_inverse=True)
        rows = np.empty((len(numbers), self.jobs[0].settings.permutations), np.uint32)
        self._gather(numbers, lambda shard, local: shard.signatures(local), rows)
        return np.asarray((rows[where[: len(left)]] == rows[where[len(left) :]]).mean(axis=1))

    def texts(self, numbers: Numbers) -> dict[int, str]:
        """The texts of some documents; reads their shards up to the last one of each."""
        found: dict[int, str] = {}
        for shard in np.unique(self.shard_of(numbers)).tolist():
            mine = np.unique(numbers[self.shard_of(numbers) == shard])
            documents = chosen_documents(self.jobs[shard].shard, mine - self.starts[shard])
            found.update(zip(mine.tolist(), (document.text for document in documents), strict=True))
        return found

    def _gather(self, numbers: Numbers, read: Callable[[ShardSignatures, Numbers], _Rows], rows: _Rows) -> _Rows:
        of = self.shard_of(numbers)
        for shard in np.unique(of).tolist():
            mine = of == shard
            rows[mine] = read(self.shards[shard], numbers[mine] - self.starts[shard])
        return rows


def open_collection(jobs: Sequence[SignatureJob]) -> Collection:
    """Opens the folders of all shards.

    Raises:
        BadDataError: One is missing or does not fit, or there is no document in all of them.
    """
    shards = [open_signatures(job) for job in jobs]
    starts = np.concatenate(([0], np.cumsum([shard.documents for shard in shards], dtype=np.int64)))
    if starts[-1] == 0:
        named = ", ".join(str(job.shard.path) for job in jobs[:3])
        raise BadDataError(f"{named}: not one document was found; there is nothing to compare.")
    return Collection(jobs, shards, starts)
