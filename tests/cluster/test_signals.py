"""A stop signal to the batch script: all ranks save and leave with 75, and the next start goes on with the next step."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tiny import Tiny, metrics

pytestmark = pytest.mark.cluster

STEPS = 400
SLOW_ENOUGH = (f"train.steps={STEPS}", "evaluate.every_steps=1000", "checkpoint.every_steps=1000")


def wait_for_steps(run_dir: Path, count: int, timeout: float = 120) -> None:
    """Until the run's metrics show ``count`` steps."""
    end = time.monotonic() + timeout
    while not (run_dir / "metrics.jsonl").exists() or len(metrics(run_dir)) < count:
        assert time.monotonic() < end, [path.read_text()[-2000:] for path in run_dir.parent.glob("job-*.log")]
        time.sleep(0.1)


def wait_for_file(path: Path, timeout: float = 40) -> None:
    """A cancelled job counts as such at once, while its ranks still save."""
    end = time.monotonic() + timeout
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.1)


def test_usr1_saves_and_leaves_with_75_and_a_second_job_continues(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    first = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *SLOW_ENOUGH)
    wait_for_steps(run_dir, 3)
    cluster.run("head", "scancel", "--batch", "--signal=USR1", first.number)
    assert first.wait()["ExitCode"] == "75:0", first.text()
    stopped_after = metrics(run_dir)[-1]["step"]
    assert stopped_after < STEPS
    assert cluster.run_file(run_dir, "exit_status.json")["exit_code"] == 75
    assert (run_dir / "checkpoints" / f"step-{stopped_after:08d}" / "COMPLETE").is_file()

    second = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *SLOW_ENOUGH)
    assert second.wait()["ExitCode"] == "0:0", second.text()
    assert [line["step"] for line in metrics(run_dir)] == list(range(1, STEPS + 1))
    assert cluster.run_file(run_dir, "exit_status.json")["exit_code"] == 0


def test_before_the_time_limit_slurm_itself_asks_for_the_save(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    options = ("--time=00:02:00", "--signal=B:USR1@45")
    endless = ("train.steps=1000000", *SLOW_ENOUGH[1:])
    job = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *endless, options=options)
    fields = job.wait()
    assert (fields["JobState"], fields["ExitCode"]) == ("FAILED", "75:0"), job.text()
    stopped_after = metrics(run_dir)[-1]["step"]
    assert (run_dir / "checkpoints" / f"step-{stopped_after:08d}" / "COMPLETE").is_file()


def test_a_cancelled_job_saves_before_it_goes(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    job = cluster.submit(tiny.recipe(), tmp_path, f"run.dir={run_dir}", *SLOW_ENOUGH)
    wait_for_steps(run_dir, 3)
    cluster.run("head", "scancel", job.number)
    assert job.wait()["JobState"] == "CANCELLED"
    wait_for_file(run_dir / "exit_status.json")
    assert cluster.run_file(run_dir, "exit_status.json")["exit_code"] == 75
    stopped_after = metrics(run_dir)[-1]["step"]
    assert (run_dir / "checkpoints" / f"step-{stopped_after:08d}" / "COMPLETE").is_file()


def test_with_requeue_the_same_job_comes_back_and_finishes(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    """With --resume never, which the second start gets, too, though there is a run in the folder by then: its own."""
    run_dir = tmp_path / "run"
    words = (f"run.dir={run_dir}", *SLOW_ENOUGH, "--resume", "never")
    job = cluster.submit(tiny.recipe(), tmp_path, *words, requeue=True)
    wait_for_steps(run_dir, 3)
    cluster.run("head", "scancel", "--batch", "--signal=USR1", job.number)
    job.wait_until(lambda fields: fields["Restarts"] == "1" and fields["JobState"] == "PENDING")
    # Slurm holds a requeued job back for two minutes; nobody needs to wait for that here. Three seconds are needed: a
    # node compares a job's credential with its end in whole seconds and refuses one of the same second ("revoked").
    cluster.run("head", "scontrol", "update", f"JobId={job.number}", "StartTime=now+3")
    fields = job.wait()
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), job.text()
    assert [line["step"] for line in metrics(run_dir)] == list(range(1, STEPS + 1))
    assert "(start 2) on 2 nodes" in job.text()
    assert "again (start 2): --resume never counted for its first start" in job.text()


def test_usr1_to_one_rank_of_a_start_over_ssh_saves_on_all_hosts(
    cluster: Any, tiny: Tiny, tmp_path: Path, hosts_file: Path
) -> None:
    run_dir = tmp_path / "run"
    argv = tiny.argv(run_dir, "launch.hosts=2", *SLOW_ENOUGH)
    with ThreadPoolExecutor() as threads:
        start = threads.submit(cluster.deepspeed, hosts_file.parent, ["--hostfile", str(hosts_file)], argv, check=False)
        wait_for_steps(run_dir, 3)
        _, pid, _, host, *_ = (run_dir / "run.lock").read_text().split()  # "process 12 on node1 since ..."
        cluster.run(host, "kill", "-USR1", pid)
        done = start.result(timeout=120)
    assert done.returncode == 75, done.stderr[-2000:]
    assert cluster.run_file(run_dir, "exit_status.json")["exit_code"] == 75
    stopped_after = metrics(run_dir)[-1]["step"]
    assert (run_dir / "checkpoints" / f"step-{stopped_after:08d}" / "COMPLETE").is_file()
