"""True Jaccard similarity of pairs that the signatures leave in doubt: their texts are read once more.

Of the documents of doubtful pairs the hashes of their distinct shingles lie in one file a shard while this runs; pairs
are compared a few megabytes at a time.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_file
from megatron_style_data.deduplication.collection import Collection
from megatron_style_data.deduplication.minhash import constants_for, minhash_for, shingle_hashes
from megatron_style_data.deduplication.processes import run_jobs
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.shards import Shard, chosen_documents

Numbers = NDArray[np.int64]

_FEW_PAIRS = 20_000  # below this, numpy is done before the comparison is compiled
_TEXTS_AT_ONCE = 1000
_VALUES_AT_ONCE = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class SetsJob:
    """The documents of one shard whose shingles are wanted.

    Attributes:
        shard: The shard.
        settings: The settings.
        wanted: Their numbers within the shard, ascending, (n,) int64.
        file: Receives the hashes of the distinct shingles, one document behind the other, uint32.
    """

    shard: Shard
    settings: DuplicateSettings
    wanted: Numbers
    file: Path


def write_sets(job: SetsJob) -> NDArray[np.int64]:
    """Writes the shingle sets of one shard's wanted documents; the size of each.

    Raises:
        BadDataError: The shard has fewer documents than before. Also what reading it raises.
    """
    minhash = minhash_for(job.settings, 0)
    constants = constants_for(job.settings)
    sizes: list[int] = []
    with atomic_file(job.file) as file:
        for texts in _wanted_texts(job):
            folded = minhash.fold(texts)
            for number in range(len(folded)):
                hashes = np.unique(shingle_hashes(folded[number], constants))
                file.write(hashes.data)
                sizes.append(len(hashes))
    return np.array(sizes, np.int64)


def _wanted_texts(job: SetsJob) -> Iterator[list[str]]:
    texts = (document.text for document in chosen_documents(job.shard, job.wanted))
    while some := list(itertools.islice(texts, _TEXTS_AT_ONCE)):
        yield some


def true_similarities(
    collection: Collection, left: Numbers, right: Numbers, work_folder: Path, workers: int
) -> NDArray[np.float64]:
    """Jaccard similarity of the shingle sets of each pair, from the texts themselves.

    Args:
        collection: All documents.
        left: Documents, (pairs,) int64.
        right: The other one of each pair.
        work_folder: Receives the sets while this runs.
        workers: Processes that read.

    Raises:
        UserError: What reading the shards raises; StorageError if the disk is full.
    """
    wanted, where = np.unique(np.concatenate((left, right)), return_inverse=True)
    shards = collection.shard_of(wanted)
    jobs = [
        SetsJob(collection.jobs[shard].shard, collection.jobs[shard].settings,
                wanted[shards == shard] - collection.starts[shard], work_folder / f"sets-{shard:05d}")
        for shard in np.unique(shards).tolist()
    ]  # fmt: skip
    sizes = run_jobs(write_sets, jobs, workers)
    sets = _Sets.of([job.file for job in jobs], sizes)
    compare = similarities if len(left) < _FEW_PAIRS else _compiled()
    first, second = where[: len(left)], where[len(left) :]
    result = np.empty(len(left))
    for piece in _pieces(sets.sizes[first] + sets.sizes[second]):
        used, places = np.unique(np.concatenate((first[piece], second[piece])), return_inverse=True)
        half = len(places) // 2
        result[piece] = compare(*sets.read(used), places[:half], places[half:])
    for job in jobs:
        job.file.unlink()
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Sets:
    """All sets: which file each is in, where, and how large it is (in values)."""

    files: Sequence[Path]
    file_of: Numbers
    offsets: Numbers
    sizes: Numbers

    @classmethod
    def of(cls, files: Sequence[Path], sizes: Sequence[Numbers]) -> "_Sets":
        file_of = np.repeat(np.arange(len(files)), [len(each) for each in sizes])
        offsets = np.concatenate([np.cumsum(each) - each for each in sizes])
        return cls(files, file_of, offsets, np.concatenate(sizes))

    def read(self, numbers: Numbers) -> tuple[NDArray[np.uint32], Numbers]:
        """The sets with these ascending numbers, one behind the other, and where each begins."""
        starts = np.concatenate(([0], np.cumsum(self.sizes[numbers])))
        values = np.empty(starts[-1], np.uint32)
        for file_number in np.unique(self.file_of[numbers]).tolist():
            with open(self.files[file_number], "rb", buffering=0) as file:
                for index in np.flatnonzero(self.file_of[numbers] == file_number).tolist():
                    file.seek(4 * int(self.offsets[numbers[index]]))
                    file.readinto(values[starts[index] : starts[index + 1]].data)
        return values, starts


def _pieces(sizes: Numbers) -> Iterator[slice]:
    """Stretches of pairs that hold about ``_VALUES_AT_ONCE`` values together."""
    piece_of = np.cumsum(sizes) // _VALUES_AT_ONCE
    ends = [*(np.flatnonzero(np.diff(piece_of)) + 1).tolist(), len(sizes)]
    for first, end in zip([0, *ends], ends, strict=False):
        yield slice(first, end)


def _compiled() -> Callable[..., NDArray[np.float64]]:
    from megatron_style_data.deduplication.fast import fast_similarities

    return fast_similarities


def similarities(values: NDArray[np.uint32], starts: Numbers, left: Numbers, right: Numbers) -> NDArray[np.float64]:
    """Jaccard similarity of pairs of sets; the reference of ``fast_similarities``.

    Args:
        values: The sets, each ascending, one behind the other.
        starts: Where each begins and the last one ends, (sets + 1,).
        left: Numbers of sets, (pairs,).
        right: The other one of each pair.
    """
    result = np.zeros(len(left))
    for pair, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        first, second = values[starts[one] : starts[one + 1]], values[starts[other] : starts[other + 1]]
        common = len(np.intersect1d(first, second, assume_unique=True))
        union = len(first) + len(second) - common
        result[pair] = common / union if union else 0.0
    return result
