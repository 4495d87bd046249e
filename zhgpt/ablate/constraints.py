"""How long each variant trains so that what the grid holds equal is equal: arithmetic only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zhgpt.ablate.grid import Constraint
from zhgpt.errors import SettingError


@dataclass(frozen=True)
class Cost:
    """What an optimizer step of a variant costs, and how many its own settings ask for.

    Attributes:
        steps: of the settings.
        tokens_per_step: of the global batch.
        flops_per_token: of the active parameters, forward and backward.
        step_seconds: measured by a probe; None where none ran.
    """

    steps: int
    tokens_per_step: int
    flops_per_token: int
    step_seconds: float | None = None

    @property
    def flops_per_step(self) -> int:
        """Forward and backward of the global batch."""
        return self.flops_per_token * self.tokens_per_step


@dataclass(frozen=True)
class Measure:
    """What a constraint holds equal: how much of it a step takes, in which unit, and the setting it rests on."""

    unit: str
    per_step: Callable[[Cost], float | None]


MEASURES: dict[Constraint, Measure] = {
    "equal_tokens": Measure("tokens", lambda cost: float(cost.tokens_per_step)),
    "equal_active_flops": Measure("FLOPs", lambda cost: float(cost.flops_per_step)),
    "equal_wall_clock": Measure("seconds", lambda cost: cost.step_seconds),
}


def steps_under(
    constraint: Constraint | None, costs: Mapping[str, Cost], baseline: str, budget: float | None = None
) -> dict[str, int]:
    """Steps of each variant, whole and at least 1: nearest to what the baseline spends.

    Args:
        constraint: one of `MEASURES`, or None: as the settings say.
        costs: by variant; those whose step was not measured are left out of equal_wall_clock.
        baseline: the variant that lays down how much.
        budget: how much instead, in the constraint's unit.

    Raises:
        SettingError: the baseline's step was not measured, or a variant's single step exceeds the budget.
    """
    if constraint is None:
        return {name: cost.steps for name, cost in costs.items()}
    measure = MEASURES[constraint]
    per_step = measure.per_step(costs[baseline])
    if budget is None and per_step is None:
        raise SettingError(
            f"{constraint} needs the step time of the baseline {baseline}, and its probe failed; see its log, or set "
            "wall_clock_seconds"
        )
    total = budget if budget is not None else (per_step or 0.0) * costs[baseline].steps
    steps = {}
    for name, cost in costs.items():
        spent = measure.per_step(cost)
        if spent is None:
            continue
        steps[name] = round(total / spent)
        if steps[name] < 1:
            raise SettingError(
                f"{constraint}: a single step of variant {name} takes {spent:.3g} {measure.unit}, more than the whole "
                f"{total:.3g}; make the baseline's run longer or the variant's batch smaller"
            )
    return steps


def micro_batches(global_batch_size: int, world_size: int) -> list[int]:
    """Micro batch sizes that cut the global batch evenly, smallest first.

    Raises:
        SettingError: none does.
    """
    per_rank, rest = divmod(global_batch_size, world_size)
    if rest or not per_rank:
        raise SettingError(f"a global batch of {global_batch_size} sequences does not divide among {world_size} ranks")
    return [size for size in range(1, per_rank + 1) if per_rank % size == 0]


def largest_that_fits(candidates: list[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of the candidates that fits, tried upwards so that memory runs out at most once; None: not one."""
    largest = None
    for size in candidates:
        if not fits(size):
            break
        largest = size
    return largest
