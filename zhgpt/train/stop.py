"""Stopping before the last step, on a signal or because rank 0 cannot write: seen by every rank at the same step."""

import signal
from types import FrameType
from typing import TYPE_CHECKING

from zhgpt.errors import StorageError

if TYPE_CHECKING:  # torch is slow to import, and a signal must be remembered before that
    from zhgpt.distributed.process_group import Ranks

CANNOT_WRITE = 1 << 16
"""Above every signal's number, so that it wins the vote."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Remembers the first stop signal; a second Ctrl-C raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.signal_number = 0

    def listen(self) -> None:
        """Installs the handlers; call it in the main thread before any long work."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number


def describe_signal(number: int) -> str:
    """``SIGTERM`` for 15."""
    return signal.Signals(number).name


def agreed_signal(ranks: "Ranks", stop: StopRequest, problem: StorageError | None) -> int:
    """The number of a stop signal that some rank got, 0 for none; reached by all ranks after each step.

    Args:
        ranks: all of them.
        stop: this rank's.
        problem: what this rank could not write since the last step; only rank 0 writes then, and all must know.

    Raises:
        StorageError: ``problem``, on every rank, though only one has it.
    """
    agreed = ranks.maximum(stop.signal_number if problem is None else CANNOT_WRITE)
    if agreed == CANNOT_WRITE:
        raise next(found for found in ranks.gather(problem) if found is not None)
    return agreed
