"""The command line of one rank."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PretrainArguments:
    """What every rank is started with."""

    config: Path
    deepspeed_config: Path
    resume: str = "auto"
    overrides: tuple[str, ...] = ()

    def to_argv(self) -> list[str]:
        """The same arguments as words."""
        return [
            "--config",
            str(self.config),
            "--deepspeed_config",
            str(self.deepspeed_config),
            "--resume",
            self.resume,
            *self.overrides,
        ]
