"""The steps since the last metrics line, kept on the device: their losses and norms cost no waiting until a line is due."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from zhgpt.distributed.process_group import Ranks


@dataclass
class LapSteps:
    """Sums of nats of this rank and gradient norms, a step each.

    Attributes:
        nats: fp32 scalars on the device.
        targets: of the global batch of each step.
        norms: scalars of all ranks; None where nobody computes it.
        held_back: updates that the spike policy held back.
    """

    nats: list[torch.Tensor] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    norms: list[Any] = field(default_factory=list)
    held_back: int = 0

    def add(self, nats: torch.Tensor, targets: int, norm: Any, *, held_back: bool) -> None:
        """One step; waits for nothing."""
        self.nats.append(nats)
        self.targets.append(targets)
        self.norms.append(norm)
        self.held_back += held_back

    def local_nats(self) -> list[float]:
        """Sums of nats of this rank; waits for the device."""
        found: list[float] = torch.stack(self.nats).double().tolist()
        return found

    def finish(
        self, ranks: Ranks, own: list[float], others: list[float]
    ) -> tuple[list[float], list[float], list[float]]:
        """Losses and finite or infinite norms of the steps in order; starts anew. One collective.

        Args:
            ranks: all of them.
            own: `local_nats`.
            others: what else is summed over the ranks, the last result.
        """
        summed = ranks.sums([*own, *others])
        losses = [nats / targets for nats, targets in zip(summed, self.targets, strict=False)]
        norms = [float(norm) for norm in self.norms if norm is not None]
        self.clear()
        return losses, norms, summed[len(own) :]

    def clear(self) -> None:
        """Starts anew."""
        self.nats, self.targets, self.norms, self.held_back = [], [], [], 0
