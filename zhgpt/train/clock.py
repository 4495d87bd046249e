"""How fast a training runs, leaving out what is no training."""

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Throughput of training alone: evaluation and saving stop the clock."""

    started: float = field(default_factory=time.perf_counter)
    lap_started: float = field(default_factory=time.perf_counter)
    lap_cpu_started: float = field(default_factory=time.process_time)
    lap_tokens: int = 0
    total_seconds: float = 0.0
    total_tokens: int = 0
    waited_seconds: float = 0.0
    """What the loader had waited in all, at the last metrics line."""
    last_lap_seconds: float = 0.0
    last_lap_cpu_seconds: float = 0.0
    """CPU time of this process in the last lap, all its threads."""
    skipped_steps: int = 0
    """DeepSpeed's count of updates it left out, at the last metrics line."""

    def lap(self, waited_seconds: float) -> tuple[float, float, float]:
        """Tokens a second of all ranks since the last lap or resume, this rank's share of waiting in it, and its seconds.

        Args:
            waited_seconds: of the loader, in all; call this when the device has finished.
        """
        now, cpu_now = time.perf_counter(), time.process_time()
        seconds, tokens = max(now - self.lap_started, 1e-9), self.lap_tokens
        self.last_lap_cpu_seconds, self.lap_cpu_started = cpu_now - self.lap_cpu_started, cpu_now
        waited, self.waited_seconds = waited_seconds - self.waited_seconds, waited_seconds
        self.last_lap_seconds = seconds
        self.total_seconds += seconds
        self.total_tokens += tokens
        self.lap_started, self.lap_tokens = now, 0
        return tokens / seconds, waited / seconds, seconds

    def resume(self) -> None:
        """Starts the lap anew after work that is no training."""
        self.lap_started, self.lap_cpu_started = time.perf_counter(), time.process_time()

    def go_back(self, skipped_steps: int, waited_seconds: float) -> None:
        """Forgets the lap: its steps are run again."""
        self.lap_tokens, self.skipped_steps, self.waited_seconds = 0, skipped_steps, waited_seconds
        self.resume()
