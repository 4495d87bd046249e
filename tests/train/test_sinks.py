"""TensorBoard, SwanLab and W&B show what metrics.jsonl says; the last two offline and without an account."""

import importlib
import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zhgpt.errors import SettingError
from zhgpt.train.metrics import open_run_log, replay
from zhgpt.train.sinks import SINKS, SinkError, SinkPlace, check_sinks, enabled_sinks, numbers, open_sinks

NEEDS_SWANLAB = pytest.mark.skipif(
    importlib.util.find_spec("swanlab") is None, reason="swanlab is not installed (extra: swanlab)"
)
NEEDS_WANDB = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="wandb is not installed (extra: wandb)"
)
TIMEOUT_SECONDS = 120

# A run that is stopped after step 20 with step 30 written, and resumed; run in a process of its own, because these
# packages start threads and processes. Says what became of the SIGINT handler and of the process's children.
RESUMED_RUN = """
import json, math, pathlib, signal, sys
from zhgpt.train.metrics import open_run_log
run_dir, name = pathlib.Path(sys.argv[1]), sys.argv[2]
handler = lambda *_: None
signal.signal(signal.SIGINT, handler)
settings = {"run": {"name": "试跑"}, "optim": {"betas": [0.9, 0.95]}, "model": {"head_dim": None}}
def attempt(resumed_step, steps):
    log = open_run_log(run_dir, [name], run_name="试跑", settings=settings, resumed_step=resumed_step)
    for step in steps:
        log.record({"step": step, "loss": 1000.0 / step, "mfu": None, "gradient_norm": math.nan if step == 20 else 1.5})
    log.sync()
    log.close()
attempt(None, [10, 20, 30])
attempt(20, [30, 40])
print(json.dumps({"handler_kept": signal.getsignal(signal.SIGINT) is handler}))
"""


def _resumed_run(run_dir: Path, name: str) -> dict[str, Any]:
    run_dir.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RESUMED_RUN, str(run_dir), name],
        cwd=run_dir.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _log_records(path: Path) -> Iterator[bytes]:
    """The records of a LevelDB log as SwanLab and W&B write it: 7 bytes of file header, blocks of 32 KiB."""
    content, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def _switches(**on: bool) -> SimpleNamespace:
    return SimpleNamespace(**{name: on.get(name, False) for name in SINKS})


def test_the_settings_switch_sinks_on_by_name() -> None:
    assert enabled_sinks(_switches()) == []
    assert enabled_sinks(_switches(wandb=True, tensorboard=True)) == ["tensorboard", "wandb"]


def test_a_sink_whose_package_is_there_passes_the_check() -> None:
    assert check_sinks(_switches(tensorboard=True)) == ["tensorboard"]


@pytest.mark.parametrize("name", ["swanlab", "wandb"])
def test_a_missing_package_is_a_setting_error_before_anything_starts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what Python does for a module that cannot be imported
    with pytest.raises(SettingError) as caught:
        check_sinks(_switches(**{name: True}))
    assert str(caught.value).startswith(f"log.{name} is true, but {name} cannot be imported by {sys.executable} (")
    assert str(caught.value).endswith(
        f"install it with: pip install 'zhgpt[{name}]', or set log.{name}=false (metrics.jsonl has the same numbers)"
    )


def test_a_missing_package_does_not_matter_while_its_sink_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert check_sinks(_switches()) == []


def test_numbers_leaves_out_the_step_texts_flags_and_unknowns() -> None:
    record: Mapping[str, Any] = {"step": 1, "loss": 2, "mfu": None, "note": "x", "flag": True, "dropped_share": 0.5}
    assert dict(numbers(record, {"loss": "train/loss"})) == {"train/loss": 2.0, "other/dropped_share": 0.5}


def test_opening_fails_with_the_sinks_opened_before_closed_again(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way", "utf-8")
    with pytest.raises(SettingError, match=r"log\.tensorboard is true"):
        open_sinks(["tensorboard"], SinkPlace(tmp_path, "demo", {}))


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resumed_step, steps in ((None, (10, 20, 30)), (20, (30, 40))):
        log = open_run_log(tmp_path, ["tensorboard"], run_name="demo", settings={}, resumed_step=resumed_step)
        for step in steps:
            log.record({"step": step, "loss": 1000.0 / step + (resumed_step or 0), "mfu": None})
        log.sync()
        log.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert shown.Tags()["scalars"] == ["train/loss"]
    points = [(event.step, event.value) for event in shown.Scalars("train/loss")]
    assert points == [(10, 100.0), (20, 50.0), (30, pytest.approx(53.33333)), (40, 45.0)]


def test_tensorboard_forgets_an_attempt_that_left_no_checkpoint(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for loss in (9.0, 5.0):
        log = open_run_log(tmp_path, ["tensorboard"], run_name="demo", settings={}, resumed_step=None)
        log.record({"step": 10, "loss": loss})
        log.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [event.value for event in shown.Scalars("train/loss")] == [5.0]


def test_tensorboard_can_be_filled_from_metrics_afterwards(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "metrics.jsonl").write_text('{"step": 10, "loss": 5.0}\n{"step": 20, "loss": 4.0}\n', "utf-8")
    (sink,) = open_sinks(["tensorboard"], SinkPlace(tmp_path, "demo", {})).values()
    assert replay(tmp_path, sink) == 2
    sink.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [event.value for event in shown.Scalars("train/loss")] == [5.0, 4.0]


@NEEDS_SWANLAB
def test_swanlab_offline_holds_the_whole_curve_in_its_newest_folder(tmp_path: Path) -> None:
    assert _resumed_run(tmp_path / "run", "swanlab") == {"handler_kept": True}
    first, second = sorted(
        (tmp_path / "run" / "swanlab").glob("run-*/run-*.swanlab"), key=lambda path: path.stat().st_mtime_ns
    )
    assert _swanlab_losses(first) == [(10, 100.0), (20, 50.0), (30, pytest.approx(33.3333333))]
    assert _swanlab_losses(second) == [(10, 100.0), (20, 50.0), (30, pytest.approx(33.3333333)), (40, 25.0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert not list(second.parent.glob("files/requirements.txt"))


def _swanlab_losses(path: Path) -> list[tuple[int, float]]:
    record_type = importlib.import_module("swanlab.proto.swanlab.record.v1.record_pb2").Record
    points = []
    for content in _log_records(path):
        record = record_type.FromString(content)
        if record.WhichOneof("record_type") == "scalar" and record.scalar.key == "train/loss":
            points.append((record.scalar.step, record.scalar.value.number))
    return points


@NEEDS_WANDB
def test_wandb_offline_holds_the_whole_curve_in_its_newest_folder(tmp_path: Path) -> None:
    assert _resumed_run(tmp_path / "run", "wandb") == {"handler_kept": True}
    first, second = sorted(
        (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns
    )
    assert _wandb_losses(first) == [(10, 100.0), (20, 50.0), (30, pytest.approx(33.3333333))]
    assert _wandb_losses(second) == [(10, 100.0), (20, 50.0), (30, pytest.approx(33.3333333)), (40, 25.0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert not list(second.parent.glob("files/requirements.txt"))


def _wandb_losses(path: Path) -> list[tuple[int, float]]:
    record_type = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    points = []
    for content in _log_records(path):
        record = record_type.FromString(content)
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            points.append((int(values["_step"]), values["train/loss"]))
    return points


class Broken:
    """A run of SwanLab or W&B, or a TensorBoard writer, whose disk is full."""

    log_dir = "runs/a/tensorboard"

    def fail(self, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    log = finish = add_scalar = flush = close = fail


@pytest.mark.parametrize(
    ("module", "sink", "refused", "unfinished"),
    [
        pytest.param(
            "swanlab", "SwanLabSink", "SwanLab refused step 7", "SwanLab could not finish", marks=NEEDS_SWANLAB
        ),
        pytest.param("wandb", "WandbSink", "W&B refused step 7", "W&B could not finish its run", marks=NEEDS_WANDB),
        (
            "tensorboard",
            "TensorBoardSink",
            "TensorBoard could not write to runs/a/tensorboard",
            "TensorBoard could not",
        ),
    ],
)
def test_a_sink_that_fails_says_what_it_could_not_do(module: str, sink: str, refused: str, unfinished: str) -> None:
    broken = getattr(importlib.import_module(f"zhgpt.train.sinks.{module}"), sink)(Broken())
    with pytest.raises(SinkError, match=f"{refused}.*No space left on device"):
        broken.write({"step": 7, "loss": 1.0})
    with pytest.raises(SinkError, match=f"{unfinished}.*No space left on device"):
        broken.close()
    if module == "tensorboard":
        with pytest.raises(SinkError, match=f"{refused}.*No space left on device"):
            broken.flush()


@pytest.mark.parametrize(
    ("name", "shown"),
    [pytest.param("swanlab", "SwanLab", marks=NEEDS_SWANLAB), pytest.param("wandb", "W&B", marks=NEEDS_WANDB)],
)
def test_a_sink_that_cannot_start_stops_the_run_with_what_to_set(
    name: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module(name)
    monkeypatch.setattr(package, "init", Broken().fail)
    monkeypatch.setattr(package, "setup", lambda **_: None, raising=False)
    with pytest.raises(
        SettingError, match=rf"log\.{name} is true, but {shown} could not start in .*set log\.{name}=false"
    ):
        open_sinks([name], SinkPlace(tmp_path, "demo", {}))
