"""What --resume means at a start, and once Slurm has started the same job again."""

import json
from pathlib import Path

import pytest

from zhgpt.distributed.environment import SlurmJob, read_slurm_job
from zhgpt.errors import SettingError
from zhgpt.train.resume import Resume, check_resume_never, resume_of_start
from zhgpt.train.run_folder import RunFolder

FIRST, SECOND = SlurmJob("17", 0), SlurmJob("17", 1)


def saved(path: Path, *steps: int) -> Path:
    for step in steps:
        (path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        (path / "checkpoints" / f"step-{step:08d}" / "COMPLETE").write_text("{}")
    return path


def begun(path: Path, job: str, *steps: int) -> RunFolder:
    """A run that a job has begun, with checkpoints."""
    saved(path, *steps)
    path.mkdir(exist_ok=True)
    (path / "environment.json").write_text(json.dumps({"slurm_job": job}))
    return RunFolder(path)


def test_resume_never_refuses_a_folder_with_a_run_in_it(tmp_path: Path) -> None:
    check_resume_never(RunFolder(tmp_path), "never")
    (tmp_path / "metrics.jsonl").write_text("")
    check_resume_never(RunFolder(tmp_path), "auto")
    with pytest.raises(SettingError, match="holds a run already and --resume is never"):
        check_resume_never(RunFolder(tmp_path), "never")


def test_outside_slurm_there_is_no_job() -> None:
    assert read_slurm_job({}) is None


def test_slurm_counts_how_often_it_has_started_a_job_again() -> None:
    assert read_slurm_job({"SLURM_JOB_ID": "17"}) == FIRST
    assert read_slurm_job({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "1"}) == SECOND


@pytest.mark.parametrize("asked", ["auto", "never", "elsewhere"])
def test_the_first_start_of_a_job_and_a_start_without_slurm_do_as_they_are_told(tmp_path: Path, asked: str) -> None:
    folder = begun(tmp_path, "17", 5)
    assert resume_of_start(folder, asked, FIRST) == Resume(asked)
    assert resume_of_start(folder, asked, None) == Resume(asked)


def test_a_job_started_again_takes_never_for_its_first_start_only(tmp_path: Path) -> None:
    found = resume_of_start(begun(tmp_path, "17"), "never", SECOND)
    assert found.mode == "auto"
    assert found.notice == (
        "Slurm has started job 17 again (start 2): --resume never counted for its first start; this one goes on from this "
        "run's newest complete checkpoint"
    )


def test_a_run_that_another_job_began_is_not_this_jobs(tmp_path: Path) -> None:
    assert resume_of_start(begun(tmp_path, "16", 5), "never", SECOND) == Resume("never")
    assert resume_of_start(begun(tmp_path / "new", "16", 5), str(saved(tmp_path / "old", 2)), SECOND).mode != "auto"
    (tmp_path / "environment.json").write_text("{")
    assert resume_of_start(RunFolder(tmp_path), "never", SECOND) == Resume("never")


@pytest.mark.parametrize(("own", "mode"), [((), "path"), ((3,), "path"), ((4,), "auto"), ((3, 6), "auto")])
def test_a_job_started_again_goes_on_from_its_own_checkpoint_once_it_has_reached_the_path(
    tmp_path: Path, own: tuple[int, ...], mode: str
) -> None:
    path = str(saved(tmp_path / "old", 4))
    found = resume_of_start(begun(tmp_path / "new", "17", *own), path, SECOND)
    assert found.mode == (path if mode == "path" else "auto")
    assert (found.notice is None) == (mode == "path")


def test_a_checkpoint_that_was_cleared_since_the_first_start_is_not_missed(tmp_path: Path) -> None:
    folder = begun(tmp_path, "17", 8)
    assert resume_of_start(folder, str(tmp_path / "checkpoints" / "step-00000004"), SECOND).mode == "auto"
