"""A corpus without its duplicates, as files: the documents that stay, what was dropped for which, and the counts."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_file, atomic_folder, atomic_write_json
from megatron_style_data.deduplication.duplicates import Duplicates, Report, cluster, signature_jobs
from megatron_style_data.deduplication.processes import run_jobs
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.shards import Shard
from megatron_style_data.deduplication.signature_files import write_signatures
from megatron_style_data.document import Document
from megatron_style_data.errors import BadDataError
from megatron_style_data.readers import ReadCounters

_PART_BYTES = 1 << 28
_LEVEL = 3
_CLUSTERED_AT_ONCE = 1 << 14


def deduplicate(
    shards: Sequence[Shard],
    settings: DuplicateSettings,
    output: Path,
    workers: int = 1,
    *,
    work_folder: Path | None = None,
    replace: bool = False,
    report: Report = lambda what: None,
) -> Duplicates:
    """Writes a corpus without its duplicates to a new folder, which appears when all of it is there.

    Args:
        shards: The files, in order.
        settings: What a duplicate is.
        output: The folder.
        workers: Processes.
        work_folder: Keeps the signatures for a later run; None: they lie beside the output and go when it is done.
        replace: Whether a folder that is there gives way.
        report: Told what is being done.

    Raises:
        UserError: What ``find_duplicates`` raises; ``StorageError`` if the output exists or cannot be written.
    """
    with atomic_folder(output, replace=replace) as folder:
        work = folder / "work" if work_folder is None else work_folder
        jobs = signature_jobs(shards, settings, work)
        report(f"reading {len(jobs)} files")
        run_jobs(write_signatures, jobs, workers)
        found = cluster(jobs, work, workers, report)
        report("writing the documents that stay")
        write_output(found, folder, workers)
        if work_folder is None:
            shutil.rmtree(work)
    return found


def write_output(found: Duplicates, folder: Path, workers: int) -> None:
    """Writes ``data/``, ``clusters.jsonl`` and ``deduplication.json`` into a folder."""
    jobs = [
        KeptJob(job.shard, found.dropped(number), folder / "data" / f"part-{number:05d}")
        for number, job in enumerate(found.collection.jobs)
    ]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    run_jobs(write_kept, jobs, workers)
    write_findings(found, folder)


def write_findings(found: Duplicates, folder: Path) -> None:
    """Writes ``clusters.jsonl`` and ``deduplication.json`` into a folder."""
    with atomic_file(folder / "clusters.jsonl") as file:
        for line in cluster_lines(found):
            file.write(line)
    atomic_write_json(folder / "deduplication.json", summary(found))


@dataclass(frozen=True, slots=True, eq=False)
class KeptJob:
    """One shard whose documents are to be written.

    Attributes:
        shard: The shard.
        dropped: Whether each of its documents is left out, (documents,) bool.
        name: Path of the parts without ``-000.jsonl.zst``.
    """

    shard: Shard
    dropped: NDArray[np.bool_]
    name: Path


def write_kept(job: KeptJob) -> int:
    """Writes the documents of a shard that stay, in parts of 256 MB of JSON lines packed with zstd; how many parts.

    Raises:
        BadDataError: The shard has another number of documents than before. Also what reading it raises.
    """
    lines = _kept_lines(job)
    for part in itertools.count():
        first = next(lines, None)
        if first is None:
            return part
        with _packed(job.name.with_name(f"{job.name.name}-{part:03d}.jsonl.zst")) as write:
            written = 0
            for line in itertools.chain([first], lines):
                write(line)
                written += len(line)
                if written >= _PART_BYTES:
                    break
    raise AssertionError


def _kept_lines(job: KeptJob) -> Iterator[bytes]:
    documents = 0
    for document in job.shard.documents(ReadCounters()):
        documents += 1
        if documents > len(job.dropped):
            break
        if not job.dropped[documents - 1]:
            yield _line(document)
    if documents != len(job.dropped):
        raise BadDataError(f"{job.shard.path}: has changed while it was compared; start again.")


def _line(document: Document) -> bytes:
    record = {"text": document.text, "source": document.source}
    # A field of the record that has one of these names already has its value there.
    record |= {name: value for name, value in document.fields.items() if name not in record}
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8")


@contextmanager
def _packed(path: Path) -> Iterator[Callable[[bytes], object]]:
    with atomic_file(path) as file:
        packer: AbstractContextManager[BinaryIO] = zstandard.ZstdCompressor(_LEVEL).stream_writer(file, closefd=False)
        with packer as packed:
            yield packed.write


def cluster_lines(found: Duplicates) -> Iterator[bytes]:
    """One JSON line a cluster, in the order of the documents that stay: what stays, what goes, how alike they are."""
    numbers = np.flatnonzero(found.keepers != np.arange(len(found.keepers)))
    numbers = numbers[np.argsort(found.keepers[numbers], kind="stable")]
    rows = itertools.chain.from_iterable(_rows(found, piece) for piece in _pieces(numbers))
    for cluster_number, (_, group) in enumerate(itertools.groupby(rows, lambda row: row[0])):
        members = list(group)
        record = {
            "cluster": cluster_number,
            "kept": members[0][1],
            "dropped": [{**place, "similarity": round(similarity, 3)} for _, _, place, similarity in members],
        }
        yield (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8")


_Place = dict[str, str | int]


def _rows(found: Duplicates, numbers: NDArray[np.int64]) -> list[tuple[int, _Place, _Place, float]]:
    keepers, collection = found.keepers[numbers], found.collection
    near = collection.jobs[0].settings.near
    similarities = collection.estimates(keepers, numbers) if near else np.ones(len(numbers))
    kept, dropped = _places(found, keepers), _places(found, numbers)
    return list(zip(keepers.tolist(), kept, dropped, similarities.tolist(), strict=True))


def _places(found: Duplicates, numbers: NDArray[np.int64]) -> list[_Place]:
    paths = [str(job.shard.path) for job in found.collection.jobs]
    shards, places = found.collection.shard_of(numbers).tolist(), found.collection.places(numbers).tolist()
    return [{"file": paths[shard], "place": place} for shard, place in zip(shards, places, strict=True)]


def _pieces(numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(numbers), _CLUSTERED_AT_ONCE):
        yield numbers[first : first + _CLUSTERED_AT_ONCE]


def summary(found: Duplicates) -> dict[str, object]:
    """Settings and counts, in all and of each file."""
    settings = found.collection.jobs[0].settings
    files = []
    for number, job in enumerate(found.collection.jobs):
        dropped = found.dropped(number)
        files.append({"file": str(job.shard.path), "documents": len(dropped), "dropped": int(dropped.sum())})
    return {
        "settings": {**asdict(settings), "bands": settings.bands, "rows": settings.rows},
        "counts": asdict(found.counts),
        "unreadable": dict(found.read.dropped),
        "files": files,
    }
