"""Deduplication on many machines, as pipelines for datatrove's executors, local or Slurm.

1. ``signatures``: one task a shard, on any machine, independent of all others.
2. ``clusters``: one task; sees all signatures, decides what stays.
3. ``write``: one task a shard; writes the documents that stay.
4. ``finish``: one task; the output is whole when its ``deduplication.json`` is there.

All machines see the same shards, work folder and output. A step is an object that is called with (data, rank, world
size), as datatrove does with everything in a pipeline; it checks for itself what is done already.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megatron_style_data.atomic import atomic_file, atomic_folder
from megatron_style_data.deduplication.duplicates import cluster, signature_jobs
from megatron_style_data.deduplication.output import KeptJob, write_findings, write_kept
from megatron_style_data.deduplication.settings import DuplicateSettings
from megatron_style_data.deduplication.shards import Shard
from megatron_style_data.deduplication.signature_files import write_signatures
from megatron_style_data.errors import MissingInputError, StorageError


@dataclass(frozen=True, slots=True)
class Deduplication:
    """What all stages of one deduplication share.

    Attributes:
        shards: The files, in order.
        settings: What a duplicate is.
        work_folder: Receives signatures and findings.
        output: A new folder for the documents that stay.
    """

    shards: Sequence[Shard]
    settings: DuplicateSettings
    work_folder: Path
    output: Path

    @property
    def found(self) -> Path:
        """Folder of what the clustering has found."""
        return self.work_folder / "found"


@dataclass(frozen=True, slots=True)
class Stage:
    """A pipeline of one step.

    Attributes:
        name: Its name.
        step: Does one task; called with (data, rank, world size).
        tasks: How many tasks there are.
    """

    name: str
    step: Callable[..., None]
    tasks: int


def stages(work: Deduplication) -> list[Stage]:
    """The pipelines of a deduplication, to be run one after the other.

    Raises:
        StorageError: The output exists already.
    """
    if work.output.exists():
        raise StorageError(f"{work.output}: exists already; choose another output or remove it first.")
    number = len(work.shards)
    return [
        Stage("signatures", Signatures(work), number),
        Stage("clusters", Clusters(work), 1),
        Stage("write", Write(work), number),
        Stage("finish", Finish(work), 1),
    ]


@dataclass(frozen=True, slots=True)
class Signatures:
    """Writes the signatures of this rank's shards."""

    work: Deduplication

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Does one task."""
        for job in signature_jobs(self.work.shards, self.work.settings, self.work.work_folder)[rank::world_size]:
            write_signatures(job)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Finds the clusters by all signatures, and writes down what each shard loses."""

    work: Deduplication

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Does the task of rank 0; the others have none."""
        if rank:
            return
        work = self.work
        found = cluster(signature_jobs(work.shards, work.settings, work.work_folder), work.work_folder)
        with atomic_folder(work.found, replace=True) as folder:
            write_findings(found, folder)
            for number in range(len(work.shards)):
                np.save(folder / f"dropped-{number:05d}.npy", found.dropped(number))


@dataclass(frozen=True, slots=True)
class Write:
    """Writes the documents of this rank's shards that stay."""

    work: Deduplication

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Does one task.

        Raises:
            MissingInputError: The clustering has not ended.
        """
        for number in range(rank, len(self.work.shards), world_size):
            dropped = self.work.found / f"dropped-{number:05d}.npy"
            if not dropped.exists():
                raise MissingInputError(f"{dropped}: not there; run the stage before this one to its end.")
            name = self.work.output / "data" / f"part-{number:05d}"
            write_kept(KeptJob(self.work.shards[number], np.load(dropped), name))


@dataclass(frozen=True, slots=True)
class Finish:
    """Puts clusters and counts beside the documents; the counts last."""

    work: Deduplication

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Does the task of rank 0."""
        if rank:
            return
        for name in ("clusters.jsonl", "deduplication.json"):
            with open(self.work.found / name, "rb") as found, atomic_file(self.work.output / name) as file:
                shutil.copyfileobj(found, file)


def run_here(work: Deduplication, workers: int) -> None:
    """Runs all stages on this machine by datatrove's local executor.

    Raises:
        UserError: What a task raises.
    """
    from datatrove.executor.local import LocalPipelineExecutor

    for stage in stages(work):
        LocalPipelineExecutor(
            pipeline=[stage.step],
            tasks=stage.tasks,
            workers=min(workers, stage.tasks),
            logging_dir=str(work.work_folder / "logs" / stage.name),
            skip_completed=False,  # the steps know what is done; marks of another deduplication must not count
        ).run()


def submit_to_slurm(work: Deduplication, **slurm: Any) -> list[str]:
    """Submits all stages to Slurm, each after the one before it; their job numbers.

    Args:
        work: What to do; all folders on a disk that every machine sees.
        slurm: Further arguments of datatrove's ``SlurmPipelineExecutor``: ``time`` and ``partition`` at least.
    """
    from datatrove.executor.slurm import SlurmPipelineExecutor

    before = None
    executors = []
    for stage in stages(work):
        before = SlurmPipelineExecutor(
            pipeline=[stage.step],
            tasks=stage.tasks,
            depends=before,
            job_name=f"deduplicate-{stage.name}",
            logging_dir=str(work.work_folder / "logs" / stage.name),
            skip_completed=False,
            **slurm,
        )
        executors.append(before)
    executors[-1].run()
    return [str(executor.job_id) for executor in executors]
