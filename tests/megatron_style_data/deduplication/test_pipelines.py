"""Deduplication by datatrove's executors."""

import json
from pathlib import Path

import pytest
from made_up_chinese import written_shards

from megatron_style_data.deduplication import CleanShard, DuplicateSettings
from megatron_style_data.deduplication.output import deduplicate
from megatron_style_data.deduplication.pipelines import Deduplication, run_here, stages
from megatron_style_data.errors import MissingInputError, StorageError


@pytest.fixture
def shards(tmp_path: Path) -> list[CleanShard]:
    return [CleanShard(path) for path in written_shards(tmp_path, 5)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_and_four_workers_of_datatrove_write_what_one_machine_writes(
    tmp_path: Path, shards: list[CleanShard]
) -> None:
    deduplicate(shards, DuplicateSettings(), tmp_path / "alone")
    alone = content(tmp_path / "alone")
    assert json.loads(alone["deduplication.json"])["counts"]["near"] > 20
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        run_here(Deduplication(shards, DuplicateSettings(), folder / "work", folder / "output"), workers)
        assert content(folder / "output") == alone


def test_an_output_that_is_there_is_refused(tmp_path: Path, shards: list[CleanShard]) -> None:
    with pytest.raises(StorageError, match="exists already; choose another output"):
        stages(Deduplication(shards, DuplicateSettings(), tmp_path / "work", tmp_path))


def test_documents_are_not_written_before_the_clusters_are_known(tmp_path: Path, shards: list[CleanShard]) -> None:
    work = Deduplication(shards, DuplicateSettings(), tmp_path / "work", tmp_path / "output")
    with pytest.raises(MissingInputError, match=r"dropped-00001\.npy: not there; run the stage before"):
        stages(work)[2].step(None, 1, 5)
    assert not (tmp_path / "output").exists()


def test_a_task_for_several_shards_does_all_of_them(tmp_path: Path, shards: list[CleanShard]) -> None:
    work = Deduplication(shards, DuplicateSettings(), tmp_path / "work", tmp_path / "output")
    for stage in stages(work):
        for rank in range(2):
            stage.step(None, rank, 2)
    deduplicate(shards, DuplicateSettings(), tmp_path / "alone")
    assert content(tmp_path / "output") == content(tmp_path / "alone")


def test_slurm_takes_the_arguments_that_are_given() -> None:
    import inspect

    from datatrove.executor.slurm import SlurmPipelineExecutor

    taken = inspect.signature(SlurmPipelineExecutor.__init__).parameters
    assert {"pipeline", "tasks", "depends", "job_name", "logging_dir", "skip_completed", "time", "partition"} <= {
        *taken
    }
