"""How the samples of a run are cut into steps and micro batches: integer arithmetic only, nothing rounded or assumed.

A run has one or more stages, each with its global batch and the length of its rows. Which samples a step consumes is a
closed form of the stages, whatever the world size.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zhgpt.config.checks import nearest_multiples
from zhgpt.config.fits import SOURCE, batch_size_for
from zhgpt.config.schema import RunConfig
from zhgpt.config.stage_sections import BatchRampStage, ShortRowsStage
from zhgpt.errors import SettingError


@dataclass(frozen=True, slots=True)
class BatchStage:
    """Consecutive steps that are cut alike.

    Attributes:
        first_step: its first step, 0-based.
        first_sample: the first sample of that step.
        global_batch_size: samples a step.
        gradient_accumulation_steps: micro-steps a step.
        sequence_length: tokens of a row; the plan's, or a divisor of it while samples are cut into shorter rows.
    """

    first_step: int
    first_sample: int
    global_batch_size: int
    gradient_accumulation_steps: int
    sequence_length: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Batch arithmetic of a run; global = micro x accumulation x data-parallel size, in sequences.

    Attributes:
        global_batch_size: the full one, after any ramp; accumulation and tokens_per_step are those of this batch.
        sequence_length: tokens of a sample.
        total_tokens: of the run, its ramp included.
        stages: in order, the first from step 0; left out: the full batch from the beginning.
    """

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    data_parallel_size: int
    sequence_length: int
    tokens_per_step: int
    steps: int
    total_tokens: int
    stages: tuple[BatchStage, ...] = ()

    def __post_init__(self) -> None:
        if not self.stages:
            whole = BatchStage(0, 0, self.global_batch_size, self.gradient_accumulation_steps, self.sequence_length)
            object.__setattr__(self, "stages", (whole,))

    @property
    def reached_stages(self) -> tuple[BatchStage, ...]:
        """The stages that begin before the run ends."""
        return tuple(stage for stage in self.stages if stage.first_step < self.steps)

    def stage_at(self, step: int) -> BatchStage:
        """The stage that a 0-based step belongs to."""
        return _stage_at(self.stages, step)

    def samples_before(self, step: int) -> int:
        """Samples that the steps before this one consume, so the first sample of this one."""
        return _samples_before(self.stages, step)

    def tokens_before(self, step: int) -> int:
        """Tokens that the steps before this one consume."""
        return self.samples_before(step) * self.sequence_length

    def steps_reaching(self, tokens: int) -> int:
        """The fewest steps that consume at least so many tokens, whether or not the run has as many."""
        return _steps_reaching(self.stages, -(-tokens // self.sequence_length))

    def steps_within(self, tokens: int) -> int:
        """The most steps that consume at most so many tokens, whether or not the run has as many."""
        steps = self.steps_reaching(tokens)
        return steps if self.tokens_before(steps) <= tokens else steps - 1


def plan_batch(config: RunConfig, world_size: int) -> BatchPlan:
    """Cut the global batch, and that of every stage before it, for `world_size` ranks.

    Raises:
        SettingError: a batch is no whole number of sequences, or does not divide among ranks and micro batches (the
            sentence names the nearest that do), or a stage ends before it begins.
    """
    train, sequence_length = config.train, config.data.sequence_length
    size = _full_batch(config, world_size)
    stages = _batch_stages(config, size, world_size)
    for number, entry in enumerate(config.data.sequence_length_warmup):
        stages = _with_short_rows(stages, entry, f"data.sequence_length_warmup[{number}]")
    return BatchPlan(
        global_batch_size=size,
        micro_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=size // (train.micro_batch_size * world_size),
        data_parallel_size=world_size,
        sequence_length=sequence_length,
        tokens_per_step=size * sequence_length,
        steps=train.steps,
        total_tokens=_samples_before(stages, train.steps) * sequence_length,
        stages=tuple(stages),
    )


def _stage_at(stages: Sequence[BatchStage], step: int) -> BatchStage:
    return stages[bisect.bisect_right(stages, step, key=lambda stage: stage.first_step) - 1]


def _samples_before(stages: Sequence[BatchStage], step: int) -> int:
    stage = _stage_at(stages, step)
    return stage.first_sample + (step - stage.first_step) * stage.global_batch_size


def _steps_reaching(stages: Sequence[BatchStage], samples: int) -> int:
    """The fewest steps that consume at least so many samples."""
    stage = stages[max(0, bisect.bisect_left(stages, samples, key=lambda stage: stage.first_sample) - 1)]
    return stage.first_step + max(0, -(-(samples - stage.first_sample) // stage.global_batch_size))


def _full_batch(config: RunConfig, world_size: int) -> int:
    train = config.train
    if train.global_batch_tokens is not None or train.global_batch_size is not None:
        return _size_of(config, train.global_batch_tokens, train.global_batch_size, world_size, "")
    size, unit = batch_size_for(train.steps, config.data.sequence_length), train.micro_batch_size * world_size
    if size % unit:
        raise SettingError(
            f"the global batch of {size} sequences that {SOURCE} gives for {train.steps} steps is not a multiple of "
            f"micro_batch_size {train.micro_batch_size} × world size {world_size} = {unit}; lower train.micro_batch_size, or "
            f"set train.global_batch_size; nearest: {nearest_multiples(size, unit)}"
        )
    return size


def _size_of(config: RunConfig, tokens: int | None, sequences: int | None, world_size: int, place: str) -> int:
    """A global batch in sequences, given in tokens or in sequences; `place` is the stage it belongs to, with a dot."""
    micro, sequence_length = config.train.micro_batch_size, config.data.sequence_length
    if tokens is not None and tokens % sequence_length:
        raise SettingError(
            f"{place or 'train.'}global_batch_tokens {tokens} is not a multiple of data.sequence_length {sequence_length}; "
            f"nearest: {nearest_multiples(tokens, sequence_length)}"
        )
    size = tokens // sequence_length if tokens is not None else sequences
    assert size is not None, "RunConfig lets neither global batch of a stage through"
    unit = micro * world_size
    if size % unit == 0:
        return size
    step = f"micro_batch_size {micro} × world size {world_size} = {unit}"
    if tokens is None:
        raise SettingError(
            f"{place}global_batch_size {size} is not a multiple of {step}; nearest: {nearest_multiples(size, unit)}"
        )
    raise SettingError(
        f"{place}global_batch_tokens {tokens} = {size} sequences of {sequence_length} is not a multiple of {step} sequences; "
        f"nearest: {nearest_multiples(tokens, unit * sequence_length)}"
    )


def _batch_stages(config: RunConfig, full: int, world_size: int) -> list[BatchStage]:
    """The stages of train.batch_ramp, then the full batch."""
    sequence_length, unit = config.data.sequence_length, config.train.micro_batch_size * world_size
    stages: list[BatchStage] = []
    step = sample = smaller = 0
    for number, entry in enumerate(config.train.batch_ramp):
        place = f"train.batch_ramp[{number}]"
        size = _size_of(config, entry.global_batch_tokens, entry.global_batch_size, world_size, f"{place}.")
        if not smaller < size < full:
            raise SettingError(
                f"{place}: a ramp grows, and {size} sequences are not between the {smaller} of the stage before and the "
                f"{full} of the full batch; put the stages in order, or leave this one out"
            )
        stages.append(BatchStage(step, sample, size, size // unit, sequence_length))
        end = _end(entry, stages, sequence_length)
        _check_order(place, step, end)
        step, sample, smaller = end, sample + (end - step) * size, size
    return [*stages, BatchStage(step, sample, full, full // unit, sequence_length)]


def _with_short_rows(stages: list[BatchStage], entry: ShortRowsStage, place: str) -> list[BatchStage]:
    """The stages with one more that cuts samples into short rows; it begins where the stages cut so far end."""
    whole = max(stage.sequence_length for stage in stages)
    first = next(stage.first_step for stage in stages if stage.sequence_length == whole)
    end = _end(entry, stages, whole)
    _check_order(place, first, end)
    cut = [replace(stage, sequence_length=entry.sequence_length) for stage in stages if first <= stage.first_step < end]
    before = [stage for stage in stages if stage.first_step < first]
    after = [stage for stage in stages if stage.first_step > end]
    at_end = replace(_stage_at(stages, end), first_step=end, first_sample=_samples_before(stages, end))
    return [*before, *cut, at_end, *after]


def _end(entry: BatchRampStage | ShortRowsStage, stages: Sequence[BatchStage], sequence_length: int) -> int:
    """The first step after a stage."""
    if entry.until_step is not None:
        return entry.until_step
    assert entry.until_tokens is not None, "RunConfig lets no stage without an end through"
    return _steps_reaching(stages, -(-entry.until_tokens // sequence_length))


def _check_order(place: str, first: int, end: int) -> None:
    if end <= first:
        raise SettingError(
            f"{place} would end with step {end}, but it begins only with step {first}, where the stage before it ends; raise "
            "its until_step or until_tokens (both count from step 0)"
        )
