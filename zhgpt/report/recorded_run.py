"""What a run's folder says, read with patience: missing files and damaged lines are noted, not raised."""

import fcntl
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from zhgpt.config.quantities import duration_text
from zhgpt.errors import MissingInputError
from zhgpt.train.json_lines import JsonLines, read_json_lines
from zhgpt.train.metrics import EVENTS_FILE, METRICS_FILE, ROUTING_FILE, read_metrics

StateKind = Literal["finished", "stopped", "failed", "running", "silent"]

_ENDINGS: dict[int, tuple[StateKind, str]] = {
    0: ("finished", "reached its last step"),
    2: ("failed", "a setting cannot be used"),
    3: ("failed", "diverged"),
    65: ("failed", "bad data"),
    66: ("failed", "an input is missing"),
    74: ("failed", "storage failed"),
    75: ("stopped", "stopped by a signal after saving; the same command resumes it"),
    76: ("failed", "out of memory"),
}
# A run without an exit status whose metrics are older than this many of its own intervals is taken for dead.
_PATIENCE_INTERVALS = 10
_PATIENCE_SECONDS = 600.0
_SAMPLES_NAME = re.compile(r"step-(\d+)\.jsonl")


@dataclass(frozen=True)
class State:
    """How the run stands: in a word, and why."""

    kind: StateKind
    reason: str
    exit_code: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """The text samples of one evaluation."""

    step: int
    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class RecordedRun:
    """Everything that was found in a run's folder.

    Attributes:
        folder: the run's folder.
        state: how it stands.
        records: metrics.jsonl in order, NaN and infinities as floats.
        events: events.jsonl in order.
        evaluations: text samples by step.
        environment: environment.json.
        config: run_config.yaml as data.
        config_text: run_config.yaml as written.
        deepspeed_text: deepspeed.json as written.
        checkpoints: steps of the complete checkpoints.
        notes: what was missing or could not be read.
        routing: routing.jsonl in order; empty for a dense model.
    """

    folder: Path
    state: State
    records: list[dict[str, Any]]
    events: list[dict[str, Any]]
    evaluations: list[Evaluation]
    environment: dict[str, Any]
    config: dict[str, Any]
    config_text: str
    deepspeed_text: str
    checkpoints: list[int]
    notes: list[str]
    routing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run's name: as configured, or that of its folder."""
        configured = look_up(self.config, "run.name")
        return configured if isinstance(configured, str) and configured else self.folder.resolve().name


def read_run(folder: Path, *, now: float | None = None) -> RecordedRun:
    """Read a run's folder.

    Args:
        folder: ``runs/<name>``.
        now: seconds since the epoch, for telling a live run from a dead one; the present if ``None``.

    Raises:
        MissingInputError: there is no such folder, or it is not a run's.
    """
    _check_is_run(folder)
    notes: list[str] = []
    records = _lines(folder / METRICS_FILE, notes, metrics=True)
    config_text = _text(folder / "run_config.yaml", notes)
    return RecordedRun(
        folder=folder,
        state=_state(folder, records, time.time() if now is None else now, notes),
        records=records,
        events=_lines(folder / EVENTS_FILE, notes),
        evaluations=_evaluations(folder / "samples", notes),
        environment=_json(folder / "environment.json", notes),
        config=_yaml(config_text, notes),
        config_text=config_text,
        deepspeed_text=_text(folder / "deepspeed.json", notes),
        checkpoints=sorted(
            int(path.parent.name.removeprefix("step-"))
            for path in folder.glob("checkpoints/step-*/COMPLETE")
            if path.parent.name.removeprefix("step-").isdigit()
        ),
        notes=notes,
        routing=_lines(folder / ROUTING_FILE, notes) if (folder / ROUTING_FILE).exists() else [],
    )


def look_up(tree: Mapping[str, Any], dotted: str) -> Any:
    """The value at ``a.b.c`` of nested mappings; ``None`` where the way is missing."""
    value: Any = tree
    for key in dotted.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def number_at(tree: Mapping[str, Any], dotted: str) -> float | None:
    """The number at ``a.b.c``; ``None`` where there is none."""
    value = look_up(tree, dotted)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_is_run(folder: Path) -> None:
    if not folder.is_dir():
        raise MissingInputError(f"{folder}: no such folder; give the folder of a run, such as runs/<name>")
    if _is_run(folder):
        return
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and _is_run(path))
    hint = f"; it holds the runs {', '.join(inside[:5])}" + (" ..." * (len(inside) > 5)) if inside else ""
    raise MissingInputError(
        f"{folder}: not the folder of a run: neither run_config.yaml nor {METRICS_FILE} is in it{hint}; "
        "give the folder of one run, such as runs/<name>"
    )


def _is_run(folder: Path) -> bool:
    return (folder / METRICS_FILE).is_file() or (folder / "run_config.yaml").is_file()


def _state(folder: Path, records: list[dict[str, Any]], now: float, notes: list[str]) -> State:
    if (folder / "exit_status.json").exists():
        status = _json(folder / "exit_status.json", notes)
        code = status.get("exit_code")
        if isinstance(code, int):
            kind, meaning = _ENDINGS.get(code, ("failed", "an error of the program"))
            reason = status.get("reason")
            return State(kind, reason if isinstance(reason, str) and reason else meaning, code)
    if _is_locked(folder / "run.lock"):
        return State("running", "a process holds its lock")
    if not records:
        return State("silent", "no step recorded and no exit status written")
    age = now - (folder / METRICS_FILE).stat().st_mtime
    if age < max(_PATIENCE_SECONDS, _PATIENCE_INTERVALS * _interval(records)):
        return State("running", f"no exit status yet, and the newest metrics are {duration_text(age)} old")
    return State(
        "silent",
        f"no exit status, and the newest metrics are {duration_text(age)} old: probably killed; the same command resumes "
        "the newest checkpoint",
    )


def _is_locked(path: Path) -> bool:
    """Whether a live process holds the run's lock, as far as this host can tell."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # A file system without locks, or no permission: the age of the metrics decides.
        return False
    return False


def _interval(records: list[dict[str, Any]]) -> float:
    """Seconds between the last two records; 0 where they do not say."""
    times = [number_at(record, "elapsed_seconds") for record in records[-2:]]
    if len(times) < 2 or times[0] is None or times[1] is None:
        return 0.0
    return max(0.0, times[1] - times[0])


def _lines(path: Path, notes: list[str], *, metrics: bool = False) -> list[dict[str, Any]]:
    if not path.exists():
        notes.append(f"{path.name} is missing.")
        return []
    lines: JsonLines = read_metrics(path) if metrics else read_json_lines(path)
    for line in lines.damaged:
        where = f"line {line.number} of {path.name}" if line.number else path.name
        notes.append(f"Left out {where}: {line.reason}.")
    return lines.records


def _evaluations(folder: Path, notes: list[str]) -> list[Evaluation]:
    found = []
    for path in sorted(folder.glob("step-*.jsonl")):
        match = _SAMPLES_NAME.fullmatch(path.name)
        if match:
            found.append(Evaluation(int(match[1]), _lines(path, notes)))
    return sorted(found, key=lambda evaluation: evaluation.step)


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}.")
        return ""


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    text = _text(path, notes)
    try:
        value = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        notes.append(f"{path.name} is not JSON: {error.msg} at line {error.lineno}.")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{path.name} is not a JSON object.")
        return {}
    return value


def _yaml(text: str, notes: list[str]) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        notes.append(f"run_config.yaml is not YAML: {' '.join(str(error).split())}.")
        return {}
    return value if isinstance(value, dict) else {}
