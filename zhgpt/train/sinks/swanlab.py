"""SwanLab, offline: a run in the run's ``swanlab`` folder, sent later with ``swanlab sync`` or never."""

import signal
import threading
from collections.abc import Mapping
from typing import Any

import swanlab
from pydantic import ValidationError

from zhgpt.errors import SettingError
from zhgpt.train.metrics import TAGS
from zhgpt.train.sinks import SinkError, SinkPlace, numbers

PROJECT = "zhgpt"


class SwanLabSink:
    """Scalars by step. SwanLab keeps its own failures to itself (``debug/debug.log`` in its folder)."""

    def __init__(self, run: swanlab.Run) -> None:
        """Take an open SwanLab run."""
        self._run = run

    def write(self, record: Mapping[str, Any]) -> None:
        """Log every number of the record at its step."""
        try:
            self._run.log(dict(numbers(record, TAGS)), step=record["step"])
        except (OSError, RuntimeError) as error:
            raise SinkError(f"SwanLab refused step {record['step']}: {error}") from error

    def flush(self) -> None:
        """Nothing: SwanLab writes its records as they come and offers no flush."""

    def close(self) -> None:
        """Mark the SwanLab run as finished."""
        try:
            self._run.finish()
        except (OSError, RuntimeError) as error:
            raise SinkError(f"SwanLab could not finish its run: {error}") from error


def open_sink(place: SinkPlace) -> SwanLabSink:
    """Open an offline run in a folder of its own.

    SwanLab's own collection of host name, packages, git state, hardware and terminal output is off: the run's
    environment.json says what matters, and a folder that is sent somewhere should hold what the run put there.

    Raises:
        SettingError: SwanLab could not start.
    """
    folder = place.run_dir / "swanlab"
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        settings = swanlab.Settings(
            interactive=False,
            probe=swanlab.Settings.Probe(
                hardware=False, runtime=False, requirements=False, conda=False, git=False, swanlab=False, monitor=False
            ),
            terminal=swanlab.Settings.Terminal(proxy_type="none"),
        )
        run = swanlab.init(
            mode="offline",
            project=PROJECT,
            name=place.run_name,
            log_dir=str(folder),
            config=dict(place.settings),
            settings=settings,
        )
    except (OSError, RuntimeError, ValidationError) as error:
        raise SettingError(
            f"log.swanlab is true, but SwanLab could not start in {folder} ({error}); "
            "repair that or set log.swanlab=false"
        ) from error
    # SwanLab takes SIGINT for itself; how a run stops is decided in one place, and that is not here.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    return SwanLabSink(run)
