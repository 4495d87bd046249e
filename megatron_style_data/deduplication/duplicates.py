"""Which documents are duplicates of which, and which one of each cluster stays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.deduplication.collection import Collection, open_collection
from megatron_style_data.deduplication.components import Components
from megatron_style_data.deduplication.equal_keys import Grouped, Keys, equal_keys
from megatron_style_data.deduplication.processes import run_jobs
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.shards import CleanShard, Shard
from megatron_style_data.deduplication.signature_files import SignatureJob, write_signatures
from megatron_style_data.deduplication.verification import true_similarities
from megatron_style_data.readers import ReadCounters

Numbers = NDArray[np.int64]
Report: TypeAlias = Callable[[str], None]

_PAIRS_AT_ONCE = 1 << 14
# Keys sorted at once: 8 or 16 bytes of key, 8 of number and 8 of order each.
_BUCKET_DOCUMENTS = 1 << 22
# Pairs in doubt that are held before their texts are read; 16 bytes each.
_MOST_DOUBTFUL = 1 << 23
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class DuplicateCounts:
    """What was found.

    Attributes:
        documents: Documents compared.
        exact: Of them dropped because another one folds to the same characters.
        near: Dropped because another one is alike.
        clusters: Groups of two documents or more.
        kept: Documents that stay.
        compared: Pairs whose signatures were compared.
        read_again: Of them pairs whose texts had to be read.
    """

    documents: int
    exact: int
    near: int
    clusters: int
    kept: int
    compared: int
    read_again: int


@dataclass(frozen=True, slots=True)
class Example:
    """Two near-duplicates.

    Attributes:
        kept: Text of the document that stays.
        dropped: Text of the other one.
        similarity: Estimated Jaccard similarity of their shingles.
    """

    kept: str
    dropped: str
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """The result.

    Attributes:
        counts: How many there are.
        examples: Up to 20 pairs of near-duplicates, the first ones of the corpus.
        read: What the readers counted, over all shards.
        keepers: For each document the one that stays of its cluster, (documents,): itself if it stays or is alone.
        collection: The signatures, for who wants to know places and similarities.
    """

    counts: DuplicateCounts
    examples: Sequence[Example]
    read: ReadCounters
    keepers: Numbers
    collection: Collection

    def dropped(self, shard_index: int) -> NDArray[np.bool_]:
        """Whether each document of one shard is dropped, in the shard's order, (documents of the shard,) bool."""
        first, end = self.collection.starts[shard_index : shard_index + 2]
        return np.asarray(self.keepers[first:end] != np.arange(first, end))


def find_duplicates(
    shards: Sequence[Path | Shard],
    settings: DuplicateSettings,
    work_folder: Path,
    workers: int,
    report: Report = lambda what: None,
) -> Duplicates:
    """Finds exact and near-duplicates among the documents of all shards.

    The result depends on the documents, their order and the settings only, never on ``workers``. What was read is kept
    in ``work_folder`` and taken from there by the next call with the same shards and settings.

    Args:
        shards: The files; a path is a part of a cleaned corpus, one document a line.
        settings: What a duplicate is.
        work_folder: Receives a folder a shard, about 700 bytes a document with the usual settings.
        workers: Processes that read shards.
        report: Told what is being done.

    Raises:
        UserError: What reading a shard raises; ``BadDataError`` if there is no document at all; ``StorageError`` if the
            work folder cannot be written.
    """
    jobs = signature_jobs(shards, settings, work_folder)
    report(f"reading {len(jobs)} files")
    run_jobs(write_signatures, jobs, workers)
    return cluster(jobs, work_folder, workers, report)


def signature_jobs(
    shards: Sequence[Path | Shard], settings: DuplicateSettings, work_folder: Path
) -> list[SignatureJob]:
    """One job a shard; each can be done anywhere, before ``cluster`` sees all of them."""
    return [
        SignatureJob(
            CleanShard(shard) if isinstance(shard, Path) else shard, settings, work_folder / f"shard-{number:05d}"
        )
        for number, shard in enumerate(shards)
    ]


def cluster(
    jobs: Sequence[SignatureJob], work_folder: Path, workers: int = 1, report: Report = lambda what: None
) -> Duplicates:
    """Finds the duplicates by signatures that have been written.

    Raises:
        BadDataError: Signatures are missing or out of date, or there is no document. Also what reading a shard raises.
    """
    collection = open_collection(jobs)
    search = _Search(collection, work_folder, workers, report)
    if search.settings.exact:
        search.join_equal()
    if search.settings.near:
        search.join_alike()
    return search.result()


class _Pairs:
    """Pairs of documents, each once."""

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._held: list[Numbers] = []

    def add(self, left: Numbers, right: Numbers) -> None:
        if len(left):
            self._held.append(left * self._documents + right)

    def take(self) -> tuple[Numbers, Numbers]:
        """All pairs, in ascending order; none are held any more."""
        pairs = np.unique(np.concatenate([np.empty(0, np.int64), *self._held]))
        self._held = []
        return pairs // self._documents, pairs % self._documents


class _Search:
    """The state of one search: what is joined already, and which pairs are in doubt."""

    def __init__(self, collection: Collection, work_folder: Path, workers: int, report: Report) -> None:
        self.settings = collection.jobs[0].settings
        self._collection, self._work_folder, self._workers, self._report = collection, work_folder, workers, report
        self._components = Components(collection.documents)
        self._lengths = collection.lengths()
        self._active = np.ones(collection.documents, bool)
        self._doubtful = _Pairs(collection.documents)
        self._exact = self._compared = self._read_again = 0

    def join_equal(self) -> None:
        """Joins documents with the same folded characters; only the first of them takes part in what follows."""
        self._report("comparing keys")
        for grouped in self._groups(self._collection.keys):
            first = grouped.documents[grouped.groups]
            copies = grouped.documents != first
            self._components.join(first[copies], grouped.documents[copies])
            self._active[grouped.documents[copies]] = False
            self._exact += int(copies.sum())

    def join_alike(self) -> None:
        """Joins documents whose shingles are alike, band by band."""
        self._active &= self._lengths >= self.settings.shingle
        for band in range(self.settings.bands):
            self._report(f"comparing band {band + 1} of {self.settings.bands}")
            for grouped in self._groups(partial(self._collection.band, band)):
                for left, right in grouped.pairs(_PAIRS_AT_ONCE):
                    self._compare(left, right)
            self._components.flatten()
            self._settle_doubts(_MOST_DOUBTFUL)
        self._settle_doubts(0)

    def _groups(self, read: Callable[[], Iterator[tuple[int, Keys]]]) -> Iterator[Grouped]:
        return equal_keys(read, self._collection.documents, self._active, _BUCKET_DOCUMENTS)

    def _compare(self, left: Numbers, right: Numbers) -> None:
        """Joins the pairs whose signatures are alike beyond doubt, and remembers those in doubt."""
        left, right = self._apart(left, right)
        if not len(left):
            return
        estimates = self._collection.estimates(left, right)
        self._compared += len(left)
        threshold, doubt = self.settings.threshold, self.settings.doubt
        sure = estimates >= threshold + doubt
        self._components.join(left[sure], right[sure])
        doubtful = ~sure & (estimates >= threshold - doubt)
        self._doubtful.add(left[doubtful], right[doubtful])

    def _settle_doubts(self, most: int) -> None:
        """Reads the texts of doubtful pairs and joins those that are alike, if there are more than ``most``."""
        left, right = self._apart(*self._doubtful.take())
        if len(left) <= most:
            self._doubtful.add(left, right)
            return
        self._report(f"reading the texts of {len(left):,} pairs in doubt")
        truth = true_similarities(self._collection, left, right, self._work_folder, self._workers)
        alike = truth >= self.settings.threshold
        self._components.join(left[alike], right[alike])
        self._components.flatten()
        self._read_again += len(left)

    def _apart(self, left: Numbers, right: Numbers) -> tuple[Numbers, Numbers]:
        apart = self._components.roots(left) != self._components.roots(right)
        return left[apart], right[apart]

    def result(self) -> Duplicates:
        """Chooses what stays of each cluster, and counts."""
        keepers = _keepers(self._components, self._lengths, self.settings.keep)
        dropped = keepers != np.arange(len(keepers))
        counts = DuplicateCounts(
            documents=len(keepers),
            exact=self._exact,
            near=int(dropped.sum()) - self._exact,
            clusters=len(np.unique(keepers[dropped])),
            kept=int((~dropped).sum()),
            compared=self._compared,
            read_again=self._read_again,
        )
        read = ReadCounters()
        for shard in self._collection.shards:
            read.add(shard.read)
        return Duplicates(counts, self._examples(keepers, dropped), read, keepers, self._collection)

    def _examples(self, keepers: Numbers, dropped: NDArray[np.bool_]) -> list[Example]:
        # Those that end first in the corpus, so that little of it is read again.
        near = np.flatnonzero(dropped & self._active)
        near = near[np.argsort(np.maximum(near, keepers[near]), kind="stable")[:_EXAMPLES]]
        if not len(near):
            return []
        similarities = self._collection.estimates(keepers[near], near).tolist()
        texts = self._collection.texts(np.concatenate((near, keepers[near])))
        pairs = zip(keepers[near].tolist(), near.tolist(), similarities, strict=True)
        return [Example(texts[kept], texts[other], similarity) for kept, other, similarity in pairs]


def _keepers(components: Components, lengths: NDArray[np.uint32], keep: str) -> Numbers:
    """The document that stays of each one's cluster: the first, or the longest and of these the first."""
    keepers = components.roots(np.arange(len(lengths)))
    if keep == "first":
        return keepers
    others = np.flatnonzero(keepers != np.arange(len(keepers)))
    roots = np.unique(keepers[others])
    members = np.concatenate((roots, others))
    order = members[np.lexsort((members, -lengths[members].astype(np.int64), keepers[members]))]
    best = order[np.concatenate(([True], keepers[order[1:]] != keepers[order[:-1]]))[: len(order)]]
    keepers[members] = best[np.searchsorted(roots, keepers[members])]
    return keepers
