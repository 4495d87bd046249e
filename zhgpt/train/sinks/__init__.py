"""Places that show a run's numbers beside metrics.jsonl: TensorBoard, SwanLab, W&B.

A sink is fed with the records of metrics.jsonl, live or afterwards (``zhgpt.train.metrics.replay``). Only rank 0 has
sinks, but every rank calls `check_sinks` at start-up, before any collective: a package that is missing must stop the
run with a sentence, not leave the other ranks waiting.

To add one: a module here with an ``open_sink(place) -> Sink``, one line in `SINKS`, one switch under ``log`` in the
settings, and a test that reads back what it wrote.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zhgpt.errors import SettingError


class SinkError(Exception):
    """A sink could not take a record; the run goes on without it."""


@dataclass(frozen=True)
class SinkPlace:
    """What a sink is opened with.

    Attributes:
        run_dir: the run's folder; a sink writes into a folder of its own name inside.
        run_name: the name to show.
        settings: the run's settings as plain data.
        resumed_step: the step of the checkpoint that the run continues from; ``None`` for a start from nothing.
    """

    run_dir: Path
    run_name: str
    settings: Mapping[str, Any]
    resumed_step: int | None = None


class Sink(Protocol):
    """One place that shows a run's numbers. Each method may raise `SinkError`."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take one record of metrics.jsonl (NaN and infinities as floats)."""

    def flush(self) -> None:
        """Put what was taken on the disk."""

    def close(self) -> None:
        """Flush and end; no record follows."""


@dataclass(frozen=True)
class SinkKind:
    """How a sink is had.

    Attributes:
        needs: the third-party module that must import.
        extra: the extra of zhgpt that installs it; ``None`` for a core dependency.
        module: the module of ours with ``open_sink``.
        continues: whether a resumed run goes on in the files of the earlier attempt; the others start a new folder,
            which is given the records so far, so that the newest folder always holds the whole curve.
    """

    needs: str
    extra: str | None
    module: str
    continues: bool

    def open(self, place: SinkPlace) -> Sink:
        """Open it.

        Raises:
            SettingError: it cannot be opened.
        """
        opener: Callable[[SinkPlace], Sink] = importlib.import_module(self.module).open_sink
        return opener(place)


SINKS: dict[str, SinkKind] = {
    "tensorboard": SinkKind("torch.utils.tensorboard", None, "zhgpt.train.sinks.tensorboard", True),
    "swanlab": SinkKind("swanlab", "swanlab", "zhgpt.train.sinks.swanlab", False),
    "wandb": SinkKind("wandb", "wandb", "zhgpt.train.sinks.wandb", False),
}


def enabled_sinks(log: object) -> list[str]:
    """The names of the sinks that the ``log`` section of the settings switches on, in the order of `SINKS`."""
    return [name for name in SINKS if getattr(log, name)]


def check_sinks(log: object) -> list[str]:
    """Import what the sinks switched on need; gives their names. Every rank calls it before any collective.

    Args:
        log: the ``log`` section of the settings (one boolean a sink).

    Raises:
        SettingError: a package is missing or does not import, with the setting and what to do.
    """
    names = enabled_sinks(log)
    for name in names:
        try:
            importlib.import_module(SINKS[name].needs)
        except ImportError as error:
            raise SettingError(_missing(name, error)) from error
    return names


def open_sinks(names: Sequence[str], place: SinkPlace) -> dict[str, Sink]:
    """Open the named sinks on rank 0.

    Raises:
        SettingError: one cannot be opened; the others are closed again.
    """
    sinks: dict[str, Sink] = {}
    try:
        for name in names:
            sinks[name] = SINKS[name].open(place)
    except SettingError:
        for sink in sinks.values():
            sink.close()
        raise
    return sinks


def numbers(record: Mapping[str, Any], tags: Mapping[str, str]) -> Iterable[tuple[str, float]]:
    """The numbers of a record under the names that sinks show; ``step``, ``None`` and texts are left out.

    Args:
        record: one record of metrics.jsonl.
        tags: the shown name of each known field; any other field is shown under ``other/``.
    """
    for key, value in record.items():
        if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
            yield tags.get(key, f"other/{key}"), float(value)


def _missing(name: str, error: ImportError) -> str:
    kind = SINKS[name]
    wanted = f"'zhgpt[{kind.extra}]'" if kind.extra else name
    return (
        f"log.{name} is true, but {kind.needs} cannot be imported by {sys.executable} ({error}); "
        f"install it with: pip install {wanted}, or set log.{name}=false (metrics.jsonl has the same numbers)"
    )
