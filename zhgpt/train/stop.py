"""Stopping on a signal: a flag that every rank sees at the same step."""

import signal
from types import FrameType

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
