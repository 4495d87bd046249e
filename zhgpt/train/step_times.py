"""Where a step's time goes: shares of forward, backward, update and communication, measured only where asked for.

Timing a phase waits for the device, which costs a GPU its head start; so ``wall_clock_breakdown`` and ``comms_logger`` of
the DeepSpeed JSON, which do the same inside DeepSpeed, switch it on.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

PHASES = ("forward", "backward", "update")


@dataclass
class StepTimes:
    """Seconds of this rank by phase since the last metrics line.

    Attributes:
        device: waited for at both ends of a phase.
        phases: whether forward, backward and update are timed.
        communication: gives the seconds spent in collectives since it was last called, and forgets them; None: not measured.
    """

    device: torch.device
    phases: bool = False
    communication: Callable[[], float] | None = None
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Adds the block's time to a phase; does nothing where phases are not timed."""
        if not self.phases:
            yield
            return
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds[phase] += time.perf_counter() - started

    def shares(self, lap_seconds: float) -> dict[str, float]:
        """Each measured time as a share of the time since the last metrics line; starts anew."""
        found: dict[str, float] = {}
        if self.phases:
            found = {f"{phase}_time": seconds / lap_seconds for phase, seconds in self.seconds.items()}
        if self.communication is not None:
            found["communication"] = self.communication() / lap_seconds
        self.seconds = dict.fromkeys(PHASES, 0.0)
        return found

    def forget(self) -> None:
        """Drops what was counted in work that is no training: evaluating gathers weights, too."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        if self.communication is not None:
            self.communication()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def step_times(
    device: torch.device, deepspeed_config: Mapping[str, Any], communication: Callable[[], float]
) -> StepTimes:
    """What the DeepSpeed JSON asks to be measured."""
    logger = deepspeed_config.get("comms_logger", {})
    return StepTimes(
        device,
        phases=bool(deepspeed_config.get("wall_clock_breakdown", False)),
        communication=communication if logger.get("enabled") else None,
    )
