"""The spike policy: each update is looked at before it happens, and what the policy says is done; all ranks alike.

DeepSpeed computes the global gradient norm inside its own step and calls torch's optimizer last. So the guard stands before
that innermost call: loss and norm are known there at every ZeRO stage, and an update that is held back leaves weights and
optimizer state as they were, bit for bit, while DeepSpeed clears its gradients as after any step.

What a decision depends on (the losses and norms of the last steps) and what it changed (the factor of the learning rate,
the samples that are passed over) is plain numbers, saved in ``train_state.json``: a resumed run decides as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import torch

from zhgpt.distributed.process_group import Ranks
from zhgpt.errors import DivergedError
from zhgpt.health.spike_rule import WINDOW, loss_limit, norm_limit, spike_in

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

Policy = Literal["warn", "skip", "lower_rate", "roll_back"]

RATE_FACTOR = 0.5
"""What ``lower_rate`` multiplies the learning rate by."""
MOST_HELD_BACK = 20
"""Updates in a row that may be held back; after that the run has diverged."""
MOST_ROLLBACKS = 3
"""Times that a run goes back to one checkpoint; after that it has diverged."""


@dataclass
class SpikeState:
    """All that the policy knows and has changed; saved with each checkpoint."""

    losses: list[float] = field(default_factory=list)
    """Of the last steps, mean over the global batch; spikes are among them, so that a new level becomes the usual one."""
    norms: list[float] = field(default_factory=list)
    rate_factor: float = 1.0
    """What the schedule's learning rate is multiplied by."""
    rate_lowered_at: int = -WINDOW
    """The step that last lowered it: not again within a window, or one rise would lower it many times."""
    skipped_samples: int = 0
    """Samples that were passed over: step n starts at sample n x global batch + this."""
    held_back_in_a_row: int = 0
    rollbacks: int = 0
    """Times that the run went back to the checkpoint it would go back to now."""

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> SpikeState:
        """What a checkpoint says; a checkpoint from before there was a policy says nothing."""
        known = {item.name for item in fields(cls)}
        values: dict[str, Any] = {key: value for key, value in saved.items() if key in known}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    def see(self, loss: float, norm: float | None) -> None:
        """Adds one step to the window."""
        if math.isfinite(loss):
            self.losses = [*self.losses, loss][-WINDOW:]
        if norm is not None and math.isfinite(norm):
            self.norms = [*self.norms, norm][-WINDOW:]


@dataclass(frozen=True)
class Spike:
    """One update that was held back."""

    step: int
    """0-based step whose update it was."""
    reason: str
    loss: float
    gradient_norm: float | None


class SpikeGuard:
    """Holds back updates of spikes; one a run and rank. Under ``warn`` it does nothing and waits for nothing."""

    def __init__(self, engine: DeepSpeedEngine, policy: Policy, ranks: Ranks, state: SpikeState, fp16: bool) -> None:
        """Stands before the optimizer's step.

        Args:
            engine: fresh from ``deepspeed.initialize``.
            policy: ``health.on_spike``.
            ranks: all of them.
            state: new, or what the checkpoint says.
            fp16: an infinite norm is then part of scaling the loss, and DeepSpeed's to handle.
        """
        self.policy, self.state = policy, state
        self.roll_back_wanted: Spike | None = None
        self._engine, self._ranks, self._fp16 = engine, ranks, fp16
        self._allow: bool | None = None
        self._verdict: Callable[[], bool] = lambda: True
        if policy != "warn":
            optimizer = innermost_optimizer(engine)
            self._step = optimizer.step
            optimizer.step = self._step_if_allowed  # type: ignore[method-assign]

    def update(self, step: int, nats: torch.Tensor, targets: int, norm: torch.Tensor | None) -> Spike | None:
        """``engine.step()`` of the last micro-step, unless the step is a spike; reached by all ranks.

        Args:
            step: 0-based.
            nats: sum over this rank's targets of the step, scalar.
            targets: of the global batch.
            norm: of all gradients where DeepSpeed does not compute it, scalar.

        Raises:
            DivergedError: update after update would have to be held back.
        """
        if self.policy == "warn":
            self._engine.step()
            return None
        loss = self._ranks.sums([float(nats.double().item())])[0] / targets
        reason: str | None = None
        seen: float | None = None

        def judge() -> bool:
            nonlocal reason, seen
            seen = self._gradient_norm(norm)
            reason = self._reason(loss, seen)
            return self._ranks.maximum(int(reason is not None)) == 0

        left_out = self._engine.skipped_steps
        self._allow, self._verdict = None, judge
        self._engine.step()
        if self._allow is None and self._engine.skipped_steps > left_out and not self._fp16:
            seen, self._allow = math.inf, False  # DeepSpeed saw it before us, and left the update out itself
            reason = f"gradient norm {seen}"
        self.state.see(loss, seen)
        if self._allow is not False:
            self.state.held_back_in_a_row = 0
            return None
        self.state.held_back_in_a_row += 1
        spike = Spike(step, reason or "seen by another rank", loss, seen)
        self._act(spike)
        return spike

    def _step_if_allowed(self, *args: Any, **kwargs: Any) -> Any:
        """What DeepSpeed calls as the optimizer's step: once a step, once a group of weights, or once a part of one."""
        if self._allow is None:
            self._allow = self._verdict()
        return self._step(*args, **kwargs) if self._allow else None

    def _gradient_norm(self, norm: torch.Tensor | None) -> float | None:
        if norm is not None:
            return float(norm)
        # Not engine.get_global_grad_norm(): that is of the step before until this one has ended.
        found = getattr(self._engine.optimizer, "_global_grad_norm", None)
        return None if found is None else float(found)

    def _reason(self, loss: float, norm: float | None) -> str | None:
        found = (
            spike_in("loss", loss, loss_limit(self.state.losses)),
            spike_in("gradient norm", norm, norm_limit(self.state.norms)),
        )
        return " and ".join(sentence for sentence in found if sentence) or None

    def _act(self, spike: Spike) -> None:
        if self.state.held_back_in_a_row > MOST_HELD_BACK:
            raise DivergedError(
                f"step {spike.step + 1}: {self.state.held_back_in_a_row} updates in a row were held back ({spike.reason}): this "
                "is no spike any more. Lower optim.learning_rate, or resume from an older checkpoint with --resume PATH"
            )
        if self.policy == "lower_rate" and spike.step - self.state.rate_lowered_at >= WINDOW:
            self.state.rate_factor *= RATE_FACTOR
            self.state.rate_lowered_at = spike.step
        if self.policy == "roll_back":
            self.roll_back_wanted = spike


def innermost_optimizer(engine: DeepSpeedEngine) -> torch.optim.Optimizer:
    """The optimizer that computes the update, below what DeepSpeed wraps around it."""
    optimizer: Any = engine.optimizer
    while not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    return optimizer
