"""An ablation as a Slurm array on two nodes: planned, run, reported; two arrays at once start nothing twice."""

import csv
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import ROOT, Tiny, losses

pytestmark = pytest.mark.cluster

ENDED = re.compile("JobState=(COMPLETED|FAILED|CANCELLED)")


def write_grid(tiny: Tiny, path: Path, overrides: dict[str, Any] | None = None, **keys: Any) -> Path:
    base = {
        "config": str(tiny.recipe()),
        "deepspeed": str(ROOT / "ds_configs" / "zero1.json"),
        "overrides": {"evaluate.prompts": [], "checkpoint.keep_last": 1, **(overrides or {})},
    }
    path.write_text(yaml.safe_dump({"base": base, **keys}, sort_keys=False))
    return path


def submit(cluster: Any, grid: Path, folder: Path, *words: str) -> tuple[str, str, str]:
    """`zhgpt ablate GRID --slurm` on the login node, in the project's folder; gives the three jobs."""
    command = [str(Path(sys.prefix) / "bin" / "zhgpt"), "ablate", str(grid), "--dir", str(folder), "--slurm"]
    options = [f"--sbatch=--output={folder.parent}/job-%A-%a.log", *words]
    done = cluster.run("head", *command, *options, cwd=ROOT, settings={"VENV": sys.prefix})
    found = re.search(r"plan: job (\d+); \d+ runs: array (\d+); report: job (\d+)", done.stdout)
    assert found is not None, done.stdout
    return found[1], found[2], found[3]


def wait(cluster: Any, job: str, logs: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not ENDED.search(cluster.run("head", "scontrol", "-o", "show", "job", job).stdout):
        if time.monotonic() > end:
            cluster.run("head", "scancel", job, check=False)
            pytest.fail(f"job {job} does not end:\n{logs_of(logs)}")
        time.sleep(0.5)


def logs_of(folder: Path) -> str:
    return "\n".join(f"{log.name}:\n{log.read_text()}" for log in sorted(folder.glob("job-*.log")))


def test_an_array_of_runs_on_two_nodes_ends_with_its_report(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    """Two variants with two seeds, one of which diverges; a task has a node to itself, so that both nodes run some."""
    grid = write_grid(
        tiny,
        tmp_path / "grid.yaml",
        variants={"a": {}, "diverging": {"optim.learning_rate": 1e30}},
        seeds=[1, 2],
        constraints=["equal_tokens"],
    )
    folder = tmp_path / "out"
    _, _, report = submit(cluster, grid, folder, "--sbatch=--exclusive")
    wait(cluster, report, tmp_path)
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    states = [(row["variant"], row["seed"], row["state"]) for row in rows]
    assert states == [
        ("a", "1", "done"),
        ("diverging", "1", "diverged"),
        ("a", "2", "done"),
        ("diverging", "2", "diverged"),
    ], logs_of(tmp_path)
    hosts = {
        name for path in folder.glob("runs/*/environment.json") for name in json.loads(path.read_text())["host_names"]
    }
    assert hosts == {"node1", "node2"}
    assert "on 2 hosts (node1, node2)" in (folder / "report.md").read_text()


def test_two_arrays_at_once_start_no_run_twice(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"variants": {"a": {}}, "seeds": [1, 2]}
    grid = write_grid(tiny, tmp_path / "grid.yaml", {"train.steps": 150}, **keys)
    folder = tmp_path / "out"
    first, second = submit(cluster, grid, folder), submit(cluster, grid, folder)
    wait(cluster, first[2], tmp_path)
    wait(cluster, second[2], tmp_path)
    for name in ("a-seed1", "a-seed2"):
        starts = [
            line for line in (folder / "runs" / name / "events.jsonl").read_text().splitlines() if "started" in line
        ]
        assert len(starts) == 1, logs_of(tmp_path)
        assert len(losses(folder / "runs" / name)) == 150


def test_a_run_over_two_nodes_and_a_length_that_the_first_job_measures(
    cluster: Any, tiny: Tiny, tmp_path: Path
) -> None:
    keys: dict[str, Any] = {"variants": {"a": {}}, "seeds": [1], "hosts": 2, "constraints": ["equal_wall_clock"]}
    grid = write_grid(tiny, tmp_path / "grid.yaml", **keys)
    folder = tmp_path / "out"
    _, array, report = submit(cluster, grid, folder)
    wait(cluster, report, tmp_path)
    status = json.loads((folder / "runs" / "a-seed1" / "exit_status.json").read_text())
    assert (status["exit_code"], status["world_size"]) == (0, 2), logs_of(tmp_path)
    assert json.loads((folder / "runs" / "a-seed1" / "environment.json").read_text())["hosts"] == 2
    assert json.loads((folder / "plan.json").read_text())["variants"][0]["step_seconds"] > 0
    assert f"job-{array}" in logs_of(tmp_path)


def test_a_time_limit_saves_the_run_and_the_next_array_goes_on(cluster: Any, tiny: Tiny, tmp_path: Path) -> None:
    """SIGUSR1 to the script, as Slurm sends it before the limit, goes through the sweep and the launcher to the rank."""
    grid = write_grid(tiny, tmp_path / "grid.yaml", {"train.steps": 400}, variants={"a": {}}, seeds=[1])
    folder = tmp_path / "out"
    _, array, report = submit(cluster, grid, folder)
    metrics = folder / "runs" / "a-seed1" / "metrics.jsonl"
    end = time.monotonic() + 180
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 10):
        assert time.monotonic() < end, logs_of(tmp_path)
        time.sleep(0.2)
    cluster.run("head", "scancel", "--batch", "--signal=USR1", array)
    wait(cluster, report, tmp_path)
    status = json.loads((folder / "runs" / "a-seed1" / "exit_status.json").read_text())
    assert status["exit_code"] == 75, logs_of(tmp_path)
    _, _, report = submit(cluster, grid, folder)
    wait(cluster, report, tmp_path)
    status = json.loads((folder / "runs" / "a-seed1" / "exit_status.json").read_text())
    assert status["exit_code"] == 0, logs_of(tmp_path)
    assert len(losses(folder / "runs" / "a-seed1")) == 400
