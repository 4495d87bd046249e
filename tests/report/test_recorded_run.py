"""Reading a run's folder, whole or in pieces."""

import fcntl
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zhgpt.errors import MissingInputError
from zhgpt.report.recorded_run import look_up, number_at, read_run

MakeRun = Callable[..., Path]


def test_a_whole_folder_is_read_without_a_note(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert run.name == "三国试跑"
    assert (run.state.kind, run.state.reason, run.state.exit_code) == ("finished", "reached step 1000", 0)
    assert len(run.records) == 200
    assert [evaluation.step for evaluation in run.evaluations] == list(range(100, 1001, 100))
    assert run.evaluations[0].samples[0]["prompt"] == "村民们都很高兴，在"
    assert len(run.events) == 3
    assert run.checkpoints == [500, 1000]
    assert run.notes == []


def test_a_folder_that_is_missing_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        read_run(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path}/none: no such folder; give the folder of a run, such as runs/<name>"


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        read_run(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: not the folder of a run: neither run_config.yaml nor metrics.jsonl is in it; "
        "give the folder of one run, such as runs/<name>"
    )


def test_a_folder_of_runs_names_them(make_run: MakeRun) -> None:
    folder = make_run()
    with pytest.raises(MissingInputError, match="is in it; it holds the runs demo; give the folder of one run"):
        read_run(folder.parent)


def test_a_folder_with_a_configuration_alone_is_read_with_notes(tmp_path: Path) -> None:
    (tmp_path / "run_config.yaml").write_text("run: {dir: x}\n", "utf-8")
    run = read_run(tmp_path)
    assert run.name == tmp_path.name
    assert (run.state.kind, run.state.reason) == ("silent", "no step recorded and no exit status written")
    assert run.notes == [
        "metrics.jsonl is missing.",
        "events.jsonl is missing.",
        "environment.json cannot be read: No such file or directory.",
        "deepspeed.json cannot be read: No such file or directory.",
    ]


def test_damaged_files_are_left_out_and_noted(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 1005, "lo')
    (folder / "environment.json").write_text("{oops", "utf-8")
    (folder / "deepspeed.json").write_bytes(b"\xff\xfe")
    (folder / "run_config.yaml").write_text("run: [\n", "utf-8")
    (folder / "exit_status.json").write_text("[0]", "utf-8")
    (folder / "samples" / "step-0000x.jsonl").write_text("not ours", "utf-8")
    run = read_run(folder)
    assert len(run.records) == 200
    assert run.config == run.environment == {}
    assert run.notes[0].startswith("Left out line 201 of metrics.jsonl: not JSON (")
    assert run.notes[1] == "exit_status.json is not a JSON object."
    assert run.notes[2] == "environment.json is not JSON: Expecting property name enclosed in double quotes at line 1."
    assert run.notes[3].startswith("run_config.yaml is not YAML: ")
    assert len(run.notes) == 4


def test_a_line_without_a_step_is_noted(make_run: MakeRun) -> None:
    run = read_run(make_run(records=[{"step": 5, "loss": 9.0}, {"loss": 8.0}]))
    assert run.notes == ["Left out metrics.jsonl: 1 line(s) without a whole number under 'step'."]


def test_nan_is_read_as_a_number(make_run: MakeRun) -> None:
    run = read_run(make_run(records=[{"step": 5, "loss": None, "non_finite": {"loss": "nan"}}]))
    assert math.isnan(run.records[0]["loss"])


@pytest.mark.parametrize(
    ("code", "kind"),
    [(0, "finished"), (75, "stopped"), (1, "failed"), (2, "failed"), (3, "failed"), (76, "failed"), (99, "failed")],
)
def test_the_exit_code_gives_the_state_and_the_reason_its_words(make_run: MakeRun, code: int, kind: str) -> None:
    folder = make_run(exit_code=code, reason="as it happened")
    state = read_run(folder).state
    assert (state.kind, state.reason, state.exit_code) == (kind, "as it happened", code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "reached its last step"),
        (75, "stopped by a signal after saving; the same command resumes it"),
        (76, "out of memory"),
        (99, "an error of the program"),
    ],
)
def test_an_exit_code_without_a_reason_is_explained(make_run: MakeRun, code: int, reason: str) -> None:
    folder = make_run()
    (folder / "exit_status.json").write_text(json.dumps({"exit_code": code}), "utf-8")
    assert read_run(folder).state.reason == reason


def test_a_held_lock_means_running(make_run: MakeRun) -> None:
    folder = make_run(exit_code=None)
    with (folder / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read_run(folder, now=1e12).state
    assert (state.kind, state.reason) == ("running", "a process holds its lock")


def test_fresh_metrics_without_an_exit_status_mean_running(make_run: MakeRun) -> None:
    folder = make_run(exit_code=None)
    (folder / "run.lock").touch()
    os.utime(folder / "metrics.jsonl", (1000.0, 1000.0))
    state = read_run(folder, now=1065.0).state
    assert (state.kind, state.reason) == ("running", "no exit status yet, and the newest metrics are 1 min 05 s old")


def test_old_metrics_without_an_exit_status_mean_killed(make_run: MakeRun) -> None:
    folder = make_run(exit_code=None)
    os.utime(folder / "metrics.jsonl", (1000.0, 1000.0))
    state = read_run(folder, now=8200.0).state
    assert (state.kind, state.reason) == (
        "silent",
        "no exit status, and the newest metrics are 2 h 00 min old: probably killed; the same command resumes the newest "
        "checkpoint",
    )


def test_a_slow_run_is_given_ten_of_its_own_intervals(make_run: MakeRun) -> None:
    folder = make_run(
        records=[{"step": 10, "elapsed_seconds": 900.0}, {"step": 20, "elapsed_seconds": 1800.0}], exit_code=None
    )
    os.utime(folder / "metrics.jsonl", (1000.0, 1000.0))
    assert read_run(folder, now=1000.0 + 8000.0).state.kind == "running"
    assert read_run(folder, now=1000.0 + 9001.0).state.kind == "silent"


def test_look_up_walks_nested_mappings_and_stops_where_the_way_is_missing() -> None:
    tree = {"a": {"b": {"c": 3}, "n": None, "s": "x", "t": True}}
    assert look_up(tree, "a.b.c") == 3
    assert look_up(tree, "a.b.c.d") is None
    assert look_up(tree, "z") is None
    assert (number_at(tree, "a.b.c"), number_at(tree, "a.s"), number_at(tree, "a.t")) == (3.0, None, None)
