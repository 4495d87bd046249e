"""How a global batch is cut into micro batches: integer arithmetic only, nothing rounded, nothing assumed."""

from dataclasses import dataclass

from zhgpt.config.checks import nearest_multiples
from zhgpt.config.schema import RunConfig
from zhgpt.errors import SettingError


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Batch arithmetic of a run; global = micro x accumulation x data-parallel size, in sequences."""

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    data_parallel_size: int
    sequence_length: int
    tokens_per_step: int
    steps: int
    total_tokens: int


def plan_batch(config: RunConfig, world_size: int) -> BatchPlan:
    """Cut the global batch for `world_size` ranks.

    Raises:
        SettingError: the batch is no whole number of sequences, or does not divide among ranks and micro batches; the
            sentence names the nearest batches that do.
    """
    train, sequence_length = config.train, config.data.sequence_length
    tokens = train.global_batch_tokens
    if tokens is not None and tokens % sequence_length:
        raise SettingError(
            f"train.global_batch_tokens {tokens} is not a multiple of data.sequence_length {sequence_length}; "
            f"nearest: {nearest_multiples(tokens, sequence_length)}"
        )
    size = tokens // sequence_length if tokens is not None else train.global_batch_size
    assert size is not None, "RunConfig lets neither global batch through"
    unit = train.micro_batch_size * world_size
    if size % unit:
        raise SettingError(_does_not_divide(config, size, world_size))
    return BatchPlan(
        global_batch_size=size,
        micro_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=size // unit,
        data_parallel_size=world_size,
        sequence_length=sequence_length,
        tokens_per_step=size * sequence_length,
        steps=train.steps,
        total_tokens=size * sequence_length * train.steps,
    )


def _does_not_divide(config: RunConfig, size: int, world_size: int) -> str:
    micro, sequence_length = config.train.micro_batch_size, config.data.sequence_length
    unit = micro * world_size
    step = f"micro_batch_size {micro} × world size {world_size} = {unit}"
    if config.train.global_batch_tokens is None:
        return f"global_batch_size {size} is not a multiple of {step}; nearest: {nearest_multiples(size, unit)}"
    tokens = size * sequence_length
    return (
        f"global_batch_tokens {tokens} = {size} sequences of {sequence_length} is not a multiple of {step} sequences; "
        f"nearest: {nearest_multiples(tokens, unit * sequence_length)}"
    )
