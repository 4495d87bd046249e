"""Weights & Biases, offline: a run in the run's ``wandb`` folder, sent later with ``wandb sync`` or never."""

from collections.abc import Mapping
from typing import Any

import wandb

from zhgpt.errors import SettingError
from zhgpt.train.metrics import TAGS
from zhgpt.train.sinks import SinkError, SinkPlace, numbers

PROJECT = "zhgpt"


class WandbSink:
    """Scalars by step."""

    def __init__(self, run: wandb.Run) -> None:
        """Take an open W&B run."""
        self._run = run

    def write(self, record: Mapping[str, Any]) -> None:
        """Log every number of the record at its step."""
        try:
            self._run.log(dict(numbers(record, TAGS)), step=record["step"])
        except (OSError, wandb.Error) as error:
            raise SinkError(f"W&B refused step {record['step']}: {error}") from error

    def flush(self) -> None:
        """Nothing: W&B's own process writes its records as they come and offers no flush."""

    def close(self) -> None:
        """Finish the W&B run."""
        try:
            self._run.finish()
        except (OSError, wandb.Error) as error:
            raise SinkError(f"W&B could not finish its run: {error}") from error


def open_sink(place: SinkPlace) -> WandbSink:
    """Open an offline run in a folder of its own.

    W&B's own collection of host, packages, git state, hardware and terminal output is off, as in the SwanLab sink.

    Raises:
        SettingError: W&B could not start.
    """
    try:
        # Before init: W&B makes its telemetry from these process-wide settings, and reaches for the network when they
        # are not offline, whatever init is told.
        wandb.setup(settings=wandb.Settings(mode="offline"))
        run = wandb.init(
            mode="offline",
            project=PROJECT,
            name=place.run_name,
            dir=str(place.run_dir),
            config=dict(place.settings),
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
    except (OSError, wandb.Error) as error:
        raise SettingError(
            f"log.wandb is true, but W&B could not start in {place.run_dir} ({error}); "
            "repair that or set log.wandb=false"
        ) from error
    return WandbSink(run)
