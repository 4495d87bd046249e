"""Sweeps as a user runs them, on the tiny recipe: failures of every kind, resuming, signals, the ready commands."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import zhgpt
from tiny import Tiny, losses

pytestmark = [pytest.mark.sweep, pytest.mark.slow, pytest.mark.distributed]

MakeGrid = Callable[..., Path]


def status(folder: Path, name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "runs" / name / "exit_status.json").read_text())
    return content


def results(folder: Path) -> dict[str, dict[str, str]]:
    rows = csv.DictReader((folder / "results.csv").read_text().splitlines())
    return {f"{row['variant']}-seed{row['seed']}": row for row in rows}


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_killed_a_diverging_and_an_oversized_variant_leave_the_others_and_the_report_whole(
    make_grid: MakeGrid, tmp_path: Path
) -> None:
    """All four end as they would for a user: by SIGKILL, a loss that is NaN, an allocator that refuses, and well."""
    grid = make_grid(
        {"train.steps": 200, "evaluate.every_steps": 100},
        variants={
            "good": {},
            "killed": {"train.steps": 100000},
            "diverging": {"optim.learning_rate": 1e30},
            "oversized": {"train.micro_batch_size": 24014, "train.global_batch_size": 24014},
        },
        constraints=[],
        memory_limit_gib=2.5,
    )
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "zhgpt.cli.main", "ablate", str(grid), "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        victim = folder / "runs" / "killed-seed1"
        wait_for(lambda: lines(victim / "metrics.jsonl") > 20)
        os.kill(int((victim / "run.lock").read_text().split()[1]), signal.SIGKILL)
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, output
    codes = {
        name: status(folder, f"{name}-seed1")["exit_code"] for name in ("good", "killed", "diverging", "oversized")
    }
    assert codes == {"good": 0, "killed": 137, "diverging": 3, "oversized": 76}
    found = results(folder)
    assert {name: row["state"] for name, row in found.items()} == {
        "good-seed1": "done",
        "killed-seed1": "failed",
        "diverging-seed1": "diverged",
        "oversized-seed1": "out of memory",
    }
    assert float(found["good-seed1"]["valid_bits_per_byte"]) > 0
    page = (folder / "report.html").read_text()
    assert "4 runs: 1 done, 1 failed, 1 diverged, 1 out of memory" in page
    assert "try train.micro_batch_size=12007" in page
    assert "1 of 4 runs have no result (killed-seed1)" in output


def test_a_sweep_that_is_killed_goes_on_with_the_run_it_was_in(make_grid: MakeGrid, tmp_path: Path) -> None:
    """SIGKILL of the sweep leaves its run alive: a second sweep leaves that alone; when it is over, a third skips it."""
    grid = make_grid({"train.steps": 300, "checkpoint.every_steps": 50}, variants={"a": {}, "b": {}})
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "zhgpt.cli.main", "ablate", str(grid), "--dir", str(folder)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    run = folder / "runs" / "a-seed1"
    wait_for(lambda: lines(run / "metrics.jsonl") > 5)
    first.kill()
    first.wait()
    second = zhgpt("ablate", grid, "--dir", folder)
    assert "[1/2] a-seed1: runs elsewhere, skipped" in second.stdout
    assert "[2/2] b-seed1: done" in second.stdout
    wait_for(lambda: (run / "exit_status.json").exists())
    wait_for(lambda: "runs elsewhere" not in zhgpt("ablate", grid, "--dir", folder).stdout)
    assert [status(folder, name)["exit_code"] for name in ("a-seed1", "b-seed1")] == [0, 0]
    assert len(losses(run)) == len(losses(folder / "runs" / "b-seed1")) == 300
    third = zhgpt("ablate", grid, "--dir", folder)
    assert re.findall(r"\] (\S+): (.*)", third.stdout) == [("a-seed1", "done, skipped"), ("b-seed1", "done, skipped")]


def test_a_stop_signal_saves_the_run_and_the_same_command_gives_what_an_uninterrupted_run_gives(
    make_grid: MakeGrid, tiny: Tiny, tmp_path: Path
) -> None:
    grid = make_grid({"train.steps": 200}, variants={"a": {}})
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "zhgpt.cli.main", "ablate", str(grid), "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = folder / "runs" / "a-seed1"
    wait_for(lambda: lines(run / "metrics.jsonl") > 5)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "what ran has saved, and the same command goes on" in errors
    assert status(folder, "a-seed1")["exit_code"] == 75
    assert "[1/1] a-seed1: goes on" in zhgpt("ablate", grid, "--dir", folder).stdout
    alone = tmp_path / "alone"
    words = ("train.steps=200", "run.seed=1", "evaluate.prompts=[]", "checkpoint.every_steps=100")
    zhgpt("pretrain", "--num-processes", "1", *tiny.argv(alone, *words))
    assert losses(run) == losses(alone)


def test_the_largest_micro_batch_is_found_by_running_out_of_memory(make_grid: MakeGrid, tmp_path: Path) -> None:
    """A global batch of 34 sequences is cut by 1, 2, 17 and 34; the limit lets 2 through and stops 17.

    A narrow model with a very wide feed-forward layer keeps half a megabyte a token and computes little.
    """
    grid = make_grid(
        {
            "train.global_batch_size": 34,
            "train.steps": 2,
            "data.sequence_length": 256,
            "model.intermediate_size": 16384,
            "evaluate.samples": 1,
        },
        constraints=["equal_tokens", "largest_that_fits"],
        memory_limit_gib=2,
        probe={"steps": 2, "warmup_steps": 1},
    )
    done = zhgpt("ablate", grid, "--dir", tmp_path / "out", "--plan")
    assert re.findall(r"micro batch (\d+)", done.stdout) == ["1", "2", "17"]
    (variant,) = json.loads((tmp_path / "out" / "plan.json").read_text())["variants"]
    assert variant["overrides"]["train.micro_batch_size"] == 2
    assert variant["problem"] == ""


def test_a_dry_run_probes_and_starts_nothing(make_grid: MakeGrid, tmp_path: Path) -> None:
    grid = make_grid(variants={"a": {}, "wide": {"model.hidden_size": 64}}, constraints=["equal_active_flops"])
    done = zhgpt("ablate", grid, "--dir", tmp_path / "out", "--dry-run")
    assert "probe of a: 6 steps, micro batch 4" in done.stdout
    assert "2 variants × 1 seeds = 2 runs (2 not started)" in done.stdout
    assert re.search(r"still to train: 2 runs, about \d+ s one after another \(from probe steps", done.stdout)
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith("  ")}
    assert int(rows["wide"][1]) < int(rows["a"][1])
    assert "–" not in rows["wide"]
    assert not (tmp_path / "out" / "runs").exists()
    assert not (tmp_path / "out" / "plan.json").exists()
    again = zhgpt("ablate", grid, "--dir", tmp_path / "out", "--dry-run")
    assert "probe of" not in again.stdout, "what was measured is remembered"
    zhgpt("ablate", grid, "--dir", tmp_path / "out", "--plan")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert all(variant["step_seconds"] > 0 for variant in plan["variants"]), "by the plan of a run, too"


def test_equal_wall_clock_gives_the_slower_variant_fewer_steps(make_grid: MakeGrid, tmp_path: Path) -> None:
    grid = make_grid(
        {"train.steps": 60},
        variants={"a": {}, "deep": {"model.num_hidden_layers": 12}},
        constraints=["equal_wall_clock"],
        probe={"steps": 12, "warmup_steps": 4},
    )
    zhgpt("ablate", grid, "--dir", tmp_path / "out")
    found = results(tmp_path / "out")
    assert int(found["deep-seed1"]["steps"]) < int(found["a-seed1"]["steps"]) == 60
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    predicted = [variant["steps"] * variant["step_seconds"] for variant in plan["variants"]]
    assert predicted[1] == pytest.approx(predicted[0], rel=0.1)
