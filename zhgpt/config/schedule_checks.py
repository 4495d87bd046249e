"""Checks of the schedule, of its stages and of a branch, that need several settings at once."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zhgpt.config.schema import RunConfig

STEP_FOLDER = re.compile(r"^step-(\d{8,})$")
"""The name of a checkpoint's folder (zhgpt/checkpoint/layout.py writes it)."""


def schedule_problems(config: "RunConfig") -> list[str]:
    """What is wrong with warm-up, stages and branch, one sentence each."""
    schedule = config.schedule
    both = schedule.warmup_steps is not None and schedule.warmup_tokens is not None
    problems = [
        f"schedule.warmup_steps {schedule.warmup_steps} and schedule.warmup_tokens {schedule.warmup_tokens} are both given: "
        "keep one"
    ] * both
    if schedule.name == "range_test" and schedule.minimum_ratio == 0:
        problems.append("schedule.minimum_ratio 0: a range test rises exponentially from above 0; set 1e-5 or so")
    return [*problems, *_ramp_problems(config), *_short_row_problems(config), *_branch_problems(config)]


def branch_step(config: "RunConfig") -> int | None:
    """The step that a branch begins with, from the name of its checkpoint; None: the run is no branch."""
    if config.train.branch_from is None:
        return None
    match = STEP_FOLDER.match(config.train.branch_from.name)
    assert match, "RunConfig lets no other name through"
    return int(match.group(1))


def _ramp_problems(config: "RunConfig") -> Iterator[str]:
    for number, entry in enumerate(config.train.batch_ramp):
        place = f"train.batch_ramp[{number}]"
        if (entry.global_batch_tokens is None) == (entry.global_batch_size is None):
            yield f"{place}: give one of global_batch_tokens and global_batch_size"
        if (entry.until_step is None) == (entry.until_tokens is None):
            yield f"{place}: give one of until_step and until_tokens, the end of this stage"


def _short_row_problems(config: "RunConfig") -> Iterator[str]:
    data, length = config.data, config.data.sequence_length
    shorter = 1
    for number, entry in enumerate(data.sequence_length_warmup):
        place = f"data.sequence_length_warmup[{number}]"
        if (entry.until_step is None) == (entry.until_tokens is None):
            yield f"{place}: give one of until_step and until_tokens, the end of this stage"
        if length % entry.sequence_length or entry.sequence_length == length:
            divisors = ", ".join(str(part) for part in range(2, length // 2 + 1) if length % part == 0)
            yield (
                f"{place}.sequence_length {entry.sequence_length} is no smaller divisor of data.sequence_length {length}, so "
                f"samples cannot be cut into rows of it; there are {divisors}"
            )
        elif entry.sequence_length <= shorter:
            yield f"{place}.sequence_length {entry.sequence_length} is not above the {shorter} before it: rows only grow"
        shorter = entry.sequence_length
    if data.sequence_length_warmup and data.packing == "best_fit":
        yield (
            "data.sequence_length_warmup cuts samples into rows, and data.packing best_fit is there to keep documents whole: "
            "leave one of them out"
        )


def _branch_problems(config: "RunConfig") -> Iterator[str]:
    train, schedule = config.train, config.schedule
    if train.branch_from is None:
        return
    if not STEP_FOLDER.match(train.branch_from.name):
        yield (
            f"train.branch_from {train.branch_from}: expected one checkpoint, as in runs/x/checkpoints/step-00004000 (its "
            "name says where the decay begins)"
        )
        return
    step = branch_step(config)
    assert step is not None
    if schedule.name != "wsd":
        yield f"train.branch_from: a branch is the decay of schedule wsd, and schedule.name is {schedule.name}; set it to wsd"
    if step >= train.steps:
        yield (
            f"train.steps {train.steps} is where the branch ends, counted from step 0 of the run it continues, and it begins "
            f"after {step} steps (train.branch_from); set train.steps to {step} + the steps it shall decay"
        )
    if train.initial_weights is not None:
        yield "train.branch_from and train.initial_weights both say where the weights come from: keep one"
