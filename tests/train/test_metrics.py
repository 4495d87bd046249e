"""metrics.jsonl, events.jsonl and what happens to them when a run is resumed."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from zhgpt.errors import MissingInputError, SettingError
from zhgpt.train.metrics import FIELDS, RunLog, open_run_log, read_metrics, replay, trim_after
from zhgpt.train.sinks import SINKS, SinkError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


class Notebook:
    """A sink that keeps what it is given, and fails at one step if asked to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.flushed = 0
        self.closed = 0
        self._fails_at = fails_at

    def write(self, record: Mapping[str, Any]) -> None:
        if record["step"] == self._fails_at:
            raise SinkError("the notebook is full")
        self.records.append(dict(record))

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


def _events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text("utf-8").splitlines()]


def _open(run_dir: Path, resumed_step: int | None) -> RunLog:
    return open_run_log(run_dir, [], run_name="demo", settings={}, resumed_step=resumed_step)


def test_a_record_goes_to_the_file_and_to_every_sink(tmp_path: Path) -> None:
    notebook = Notebook()
    log = RunLog(tmp_path, {"notebook": notebook})
    record = {"step": 10, "loss": 9.25, "mfu": None}
    log.record(record)
    log.sync()
    log.close()
    log.close()
    assert read_metrics(tmp_path / "metrics.jsonl").records == [record] == notebook.records
    assert (notebook.flushed, notebook.closed) == (1, 1)


def test_a_loss_that_is_not_a_number_reaches_sinks_and_readers_as_one(tmp_path: Path) -> None:
    notebook = Notebook()
    log = RunLog(tmp_path, {"notebook": notebook})
    log.record({"step": 1, "loss": math.nan})
    log.close()
    assert math.isnan(notebook.records[0]["loss"])
    assert math.isnan(read_metrics(tmp_path / "metrics.jsonl").records[0]["loss"])


def test_a_record_without_a_step_or_a_step_back_is_our_mistake(tmp_path: Path) -> None:
    log = RunLog(tmp_path, {})
    log.record({"step": 10})
    with pytest.raises(AssertionError, match="step 9 after step 10"):
        log.record({"step": 9})
    with pytest.raises(AssertionError, match="without a step"):
        log.record({"loss": 1.0})


def test_an_event_has_its_instant_and_its_fields(tmp_path: Path) -> None:
    log = RunLog(tmp_path, {})
    log.event("checkpoint_saved", step=100, path="checkpoints/step-00000100")
    log.close()
    (event,) = _events(tmp_path)
    assert datetime.fromisoformat(event.pop("at")).tzinfo is not None
    assert event == {"event": "checkpoint_saved", "step": 100, "path": "checkpoints/step-00000100"}


def test_resuming_takes_out_the_steps_that_are_run_again(tmp_path: Path) -> None:
    first = _open(tmp_path, None)
    for step in (10, 20, 30):
        first.record({"step": step, "loss": float(step)})
    first.close()
    second = _open(tmp_path, 20)
    second.record({"step": 30, "loss": 0.5})
    second.close()
    assert [record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl").records] == [10.0, 20.0, 0.5]
    assert [record["loss"] for record in read_metrics(tmp_path / "metrics.dropped.jsonl").records] == [30.0]
    (event,) = _events(tmp_path)
    event.pop("at")
    assert event == {"event": "metrics_trimmed", "resumed_step": 20, "kept": 2, "dropped": 1, "damaged": 0}


def test_a_start_from_nothing_moves_the_earlier_attempt_aside(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "valid_loss": 9.0}\n{"step": 10}\n', "utf-8")
    _open(tmp_path, None).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    assert len(read_metrics(tmp_path / "metrics.dropped.jsonl").records) == 2


def test_trimming_a_folder_without_metrics_is_nothing(tmp_path: Path) -> None:
    assert trim_after(tmp_path, 10).dropped == 0
    assert list(tmp_path.iterdir()) == []


def test_lines_without_a_step_are_reported_as_damaged_and_trimmed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"loss": 3}\n{"step": "ten"}\n{"step": true}\n', "utf-8")
    lines = read_metrics(path)
    assert lines.records == [{"step": 10}]
    assert [line.reason for line in lines.damaged] == ["3 line(s) without a whole number under 'step'"]
    assert trim_after(tmp_path, 10).dropped == 3


def test_a_failing_sink_is_let_go_and_the_run_goes_on(tmp_path: Path) -> None:
    failing, healthy = Notebook(fails_at=20), Notebook()
    said: list[str] = []
    log = RunLog(tmp_path, {"wandb": failing, "tensorboard": healthy}, said.append)
    for step in (10, 20, 30):
        log.record({"step": step})
    log.close()
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl").records] == [10, 20, 30]
    assert [record["step"] for record in failing.records] == [10]
    assert [record["step"] for record in healthy.records] == [10, 20, 30]
    assert said == [
        "log.wandb: the notebook is full; the run goes on without it, metrics.jsonl has every number "
        "(docs/metrics.md, replay, fills a new one from it)"
    ]
    (event,) = _events(tmp_path)
    assert (event["event"], event["sink"], event["step"]) == ("sink_stopped", "wandb", 20)


def test_replay_gives_a_sink_the_records_of_a_finished_run(tmp_path: Path) -> None:
    log = RunLog(tmp_path, {})
    log.record({"step": 10, "loss": 2.0})
    log.record({"step": 20, "loss": math.inf})
    log.close()
    notebook = Notebook()
    assert replay(tmp_path, notebook) == 2
    assert notebook.records == [{"step": 10, "loss": 2.0}, {"step": 20, "loss": math.inf}]


def test_replay_of_a_folder_without_metrics_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"metrics\.jsonl: no such file"):
        replay(tmp_path, Notebook())


def test_only_sinks_with_new_folders_are_given_the_records_so_far(tmp_path: Path) -> None:
    sinks = {name: Notebook() for name in SINKS}
    log = RunLog(tmp_path, sinks)
    log.catch_up([{"step": 10}, {"step": 20}])
    log.close()
    assert {name: len(sink.records) for name, sink in sinks.items()} == {"tensorboard": 0, "swanlab": 2, "wandb": 2}


def test_a_sink_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way", "utf-8")
    with pytest.raises(SettingError, match=r"log\.tensorboard is true, but .* cannot be written .*; choose another"):
        open_run_log(tmp_path, ["tensorboard"], run_name="demo", settings={}, resumed_step=None)


@pytest.mark.parametrize("name", FIELDS)
def test_the_documentation_has_every_field_with_its_unit(name: str) -> None:
    rows = [line for line in DOCS.read_text("utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1
    assert f"| {FIELDS[name].unit} |" in rows[0]
    assert FIELDS[name].tag == "step" or f"`{FIELDS[name].tag}`" in rows[0]
