"""How long a run takes, stage by stage: smaller batches and shorter rows at its start, and a branch from its first step on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.schema import ModelSection
from zhgpt.plan.gpus import Cluster
from zhgpt.plan.layout import Layout
from zhgpt.plan.step_time import Constants, StepTime, predict_step


@dataclass(frozen=True, slots=True)
class StageTime:
    """Consecutive steps that take equally long.

    Attributes:
        first_step: 0-based.
        steps: how many of them.
        step: what one takes.
    """

    first_step: int
    steps: int
    step: StepTime

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.step.total * self.steps


def stage_times(
    model: ModelSection, layout: Layout, cluster: Cluster, batch: BatchPlan, first_step: int, constants: Constants
) -> tuple[StageTime, ...]:
    """The run's stages with the time of their steps.

    Rows that are cut shorter lie beside each other in the micro batch: as many tokens, with less attention in them.

    Args:
        model: what ``resolve_model`` returns.
        layout: of the ranks, at the full batch.
        cluster: what they run on.
        batch: the run's batch plan.
        first_step: that the run takes: a branch's, else 0.
        constants: of the step-time model.
    """
    ends = [*(stage.first_step for stage in batch.stages[1:]), batch.steps]
    times = []
    for stage, end in zip(batch.stages, ends, strict=True):
        first = max(stage.first_step, first_step)
        steps = min(end, batch.steps) - first
        if steps <= 0:
            continue
        rows = batch.micro_batch_size * (batch.sequence_length // stage.sequence_length)
        cut = replace(layout, accumulation=stage.gradient_accumulation_steps)
        times.append(StageTime(first, steps, predict_step(model, cut, cluster, rows, stage.sequence_length, constants)))
    return tuple(times)


def last_step_within(times: Sequence[StageTime], seconds: float) -> int:
    """The step, counted from step 0 of the run, that these seconds reach; the first of all where they reach none."""
    reached = times[0].first_step
    for stage in times:
        steps = min(stage.steps, int(seconds / stage.step.total))
        reached, seconds = stage.first_step + steps, seconds - steps * stage.step.total
        if steps < stage.steps:
            break
    return reached
