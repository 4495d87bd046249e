"""datatrove's executors: silence, a process that dies, and a job array of Slurm with commands that stand in for it."""

import json
import os
import stat
from pathlib import Path

import pytest

from megatron_style_data.cleaning.executors import run_locally
from megatron_style_data.cleaning.run import clean
from megatron_style_data.errors import BadDataError, SettingError, StorageError

# Runs every task of the array at once, one after the other, and says a number as sbatch does.
SBATCH = """#!/bin/bash
script="${@: -1}"
echo "$@" >> "$(dirname "$0")/calls"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "${last:-0}"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=1 SLURM_NODELIST=here SLURM_CPUS_PER_TASK=1 SLURM_MEM_PER_CPU=4096 \\
    timeout 100 bash "$script" >> "$(dirname "$0")/output" 2>&1 || exit 1
done
echo "Submitted batch job $(wc -l < "$(dirname "$0")/calls")"
"""
SCONTROL = """#!/bin/bash
echo "${@: -1}"
"""
SRUN = """#!/bin/bash
while [ "$1" != launch_pickled_pipeline ]; do shift; done
exec "$@"
"""


def end_at_task_1(data: object, rank: int = 0, world_size: int = 1) -> None:
    """Ends the whole process, as the system does when memory runs out."""
    if rank == 1:
        os._exit(9)


def refuse(data: object, rank: int = 0, world_size: int = 1) -> None:
    raise BadDataError(f"task {rank} does not like it")


def test_a_process_that_dies_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="a process ended without a word, as the system does when memory runs out"):
        run_locally(end_at_task_1, 3, range(3), 2, tmp_path, lambda number: None)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_comes_through_and_nothing_is_logged(tmp_path: Path, workers: int, capfd) -> None:
    with pytest.raises(BadDataError, match="does not like it"):
        run_locally(refuse, 2, range(2), workers, tmp_path, lambda number: None)
    assert "PIPELINE" not in capfd.readouterr().err


def test_a_cluster_that_refuses_a_job_is_quoted(
    write_corpus, make_recipe, story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(write_corpus(story), executor="slurm", slurm={"partition": "none"})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SettingError, match="sbatch: no such command here"):
        clean(recipe, tmp_path / "out")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "sbatch").chmod(stat.S_IRWXU)
    with pytest.raises(SettingError, match="sbatch refused the job"):
        clean(recipe, tmp_path / "out")


@pytest.mark.slow
def test_slurm_gets_an_array_and_a_last_job_and_the_output_is_that_of_one_machine(
    write_corpus, make_recipe, many_texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, content in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(content)
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    corpus = write_corpus(*many_texts)
    settings = {"steps": {"length": None, "repetition": None}, "task_bytes": 70_000, "deduplicate": {"near": False}}
    slurm = {"executor": "slurm", "slurm": {"partition": "cpu", "cpus_per_task": 1}}
    result = clean(make_recipe(corpus, **settings, **slurm), tmp_path / "cluster")
    output = (commands / "output").read_text()
    assert (tmp_path / "cluster" / "corpus.json").exists(), output
    assert len(result.jobs) == 2
    calls = (commands / "calls").read_text().splitlines()
    assert sum("--dependency=afterok" in call for call in calls) == 1
    clean(make_recipe(corpus, **settings), tmp_path / "machine")
    for name in ("corpus.json", "corpus.html"):
        assert (tmp_path / "cluster" / name).read_bytes() == (tmp_path / "machine" / name).read_bytes()
    assert json.loads((tmp_path / "cluster" / "corpus.json").read_bytes())["shards"] == 2
