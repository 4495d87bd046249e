"""Learning-rate schedules as pure functions of the step, so that no state of theirs can be lost or restored wrongly."""

import math
from collections.abc import Callable

from zhgpt.config.schema import ScheduleSection


def _cosine(step: int, steps: int, section: ScheduleSection) -> float:
    progress = (step - section.warmup_steps) / max(1, steps - 1 - section.warmup_steps)
    return section.minimum_ratio + (1 - section.minimum_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _wsd(step: int, steps: int, section: ScheduleSection) -> float:
    decay_steps = max(1, round(steps * section.decay_fraction))
    remaining = (steps - 1 - step) / decay_steps
    return section.minimum_ratio + (1 - section.minimum_ratio) * min(1.0, max(0.0, remaining))


def _constant(step: int, steps: int, section: ScheduleSection) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[int, int, ScheduleSection], float]] = {
    "cosine": _cosine,
    "wsd": _wsd,
    "constant": _constant,
}


def learning_rate_at(step: int, steps: int, peak: float, section: ScheduleSection) -> float:
    """Learning rate of one step.

    Args:
        step: 0-based step.
        steps: steps of the whole run.
        peak: ``optim.learning_rate``.
        section: shape and warm-up. The rate rises linearly over ``warmup_steps`` (step 0 already has a non-zero rate), then
            follows the named shape down to ``minimum_ratio * peak`` at the last step.
    """
    if step < section.warmup_steps:
        return peak * (step + 1) / section.warmup_steps
    return peak * SCHEDULES[section.name](step, steps, section)
