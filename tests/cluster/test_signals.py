"""A stop signal to the batch script: all ranks save and leave with 75, and the next start goes on with the next step."""

import time
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, metrics

pytestmark = pytest.mark.cluster

STEPS = 400
SLOW_ENOUGH = (f"train.steps={STEPS}", "evaluate.every_steps=1000", "checkpoint.every_steps=1000")


def wait_for_steps(run_dir: Path, count: int, job: Any, timeout: float = 120) -> None:
    """Until the run's metrics show ``count`` steps."""
    end = time.monotonic() + timeout
    while not (run_dir / "metrics.jsonl").exists() or len(metrics(run_dir)) < count:
        assert time.monotonic() < end, job.text()
        assert job.fields()["JobState"] in {"PENDING", "RUNNING", "COMPLETING"}, job.text()
        time.sleep(0.2)


def test_usr1_saves_and_leaves_with_75_and_a_second_job_continues(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    first = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *SLOW_ENOUGH)
    wait_for_steps(run_dir, 3, first)
    cluster.run("head", "scancel", "--batch", "--signal=USR1", first.number)
    assert first.wait()["ExitCode"] == "75:0", first.text()
    stopped_after = metrics(run_dir)[-1]["step"]
    assert stopped_after < STEPS
    assert cluster.exit_status(run_dir)["exit_code"] == 75
    assert (run_dir / "checkpoints" / f"step-{stopped_after:08d}" / "COMPLETE").is_file()

    second = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *SLOW_ENOUGH)
    assert second.wait()["ExitCode"] == "0:0", second.text()
    assert [line["step"] for line in metrics(run_dir)] == list(range(1, STEPS + 1))
    assert cluster.exit_status(run_dir)["exit_code"] == 0


def test_with_requeue_the_same_job_comes_back_and_finishes(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    job = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *SLOW_ENOUGH, requeue=True)
    wait_for_steps(run_dir, 3, job)
    cluster.run("head", "scancel", "--batch", "--signal=USR1", job.number)
    job.wait_until(lambda fields: fields["Restarts"] == "1" and fields["JobState"] == "PENDING")
    # Slurm holds a requeued job back for two minutes; nobody needs to wait for that here.
    cluster.run("head", "scontrol", "update", f"JobId={job.number}", "StartTime=now")
    fields = job.wait()
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), job.text()
    assert [line["step"] for line in metrics(run_dir)] == list(range(1, STEPS + 1))
    assert "(start 2) on 2 nodes" in job.text()
