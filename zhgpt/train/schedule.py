"""Learning-rate schedules as pure functions of the step, so that no state of theirs can be lost or restored wrongly."""

import math
from collections.abc import Callable

from zhgpt.config.schedule_section import ScheduleSection


def _cosine(step: int, steps: int, section: ScheduleSection) -> float:
    progress = (step - section.warmup) / max(1, steps - 1 - section.warmup)
    return section.minimum_ratio + (1 - section.minimum_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _wsd(step: int, steps: int, section: ScheduleSection) -> float:
    remaining = (steps - 1 - step) / section.decay_steps(steps)
    share = DECAY_SHAPES[section.decay_shape](min(1.0, max(0.0, remaining)))
    return section.minimum_ratio + (1 - section.minimum_ratio) * share


def _constant(step: int, steps: int, section: ScheduleSection) -> float:
    return 1.0


def _range_test(step: int, steps: int, section: ScheduleSection) -> float:
    return float(section.minimum_ratio ** (1 - step / max(1, steps - 1)))


DECAY_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda remaining: remaining,
    "one_minus_sqrt": lambda remaining: 1 - math.sqrt(1 - remaining),
}
"""From the share of the decay that remains (1 to 0) to the share of the rate; 1 - sqrt: Haegele et al. 2024."""

SCHEDULES: dict[str, Callable[[int, int, ScheduleSection], float]] = {
    "cosine": _cosine,
    "wsd": _wsd,
    "constant": _constant,
    "range_test": _range_test,
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
    if step < section.warmup:
        return peak * (step + 1) / section.warmup
    return peak * SCHEDULES[section.name](step, steps, section)
