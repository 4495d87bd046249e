"""TensorBoard: event files in the run's ``tensorboard`` folder."""

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from zhgpt.errors import SettingError
from zhgpt.train.metrics import TAGS
from zhgpt.train.sinks import SinkError, SinkPlace, numbers


class TensorBoardSink:
    """Scalars by step."""

    def __init__(self, writer: SummaryWriter) -> None:
        """Take an open writer."""
        self._writer = writer

    def write(self, record: Mapping[str, Any]) -> None:
        """Add every number of the record at its step."""
        try:
            for tag, value in numbers(record, TAGS):
                self._writer.add_scalar(tag, value, record["step"])
        except OSError as error:
            raise SinkError(f"TensorBoard could not write to {self._writer.log_dir}: {error}") from error

    def flush(self) -> None:
        """Put the queued events on the disk; what a checkpoint covers is never missing from the curves."""
        try:
            self._writer.flush()
        except OSError as error:
            raise SinkError(f"TensorBoard could not write to {self._writer.log_dir}: {error}") from error

    def close(self) -> None:
        """Flush and close the event file."""
        try:
            self._writer.close()
        except OSError as error:
            raise SinkError(f"TensorBoard could not write to {self._writer.log_dir}: {error}") from error


def open_sink(place: SinkPlace) -> TensorBoardSink:
    """Open a new event file; TensorBoard hides what earlier files say about steps that are run again.

    Raises:
        SettingError: the folder cannot be written.
    """
    # purge_step writes a session-start event, on which TensorBoard discards every event at that step or after it: all
    # of an earlier attempt's when the run starts from nothing.
    purge_step = 0 if place.resumed_step is None else place.resumed_step + 1
    folder = place.run_dir / "tensorboard"
    try:
        return TensorBoardSink(SummaryWriter(log_dir=str(folder), purge_step=purge_step))
    except OSError as error:
        raise SettingError(
            f"log.tensorboard is true, but {folder} cannot be written ({error}); choose another run.dir or set "
            "log.tensorboard=false"
        ) from error
