"""How a model can be trained on some ranks within some hours: ZeRO stage, micro batch, global batch and steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zhgpt.config.fits import batch_tokens_for
from zhgpt.config.schema import ModelSection
from zhgpt.plan.calibration import load_constants
from zhgpt.plan.gpus import Cluster
from zhgpt.plan.ladder import OPTIMIZER
from zhgpt.plan.layout import Layout, layout_of
from zhgpt.plan.memory import plan_memory
from zhgpt.plan.step_time import predict_step

MOST_BATCH_TOKENS = 2**20
LEAST_STEPS = 1000
MOST_MICRO_TOKENS = 2**16
LEAST_MICRO_TOKENS = 12_288
"""Tokens of the smallest micro-step among the published rows: what fewer cost a GPU, nothing here has measured."""
NEARLY_AS_FAST = 0.98
"""A smaller micro batch with this share of the best rate is taken: it divides on more ranks and leaves memory free."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may use.

    Attributes:
        seconds: of training.
        tokens: that the text is worth reading; infinite where it is not known.
    """

    seconds: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Way:
    """How one model is trained, and how far that gets within the budget.

    Attributes:
        stage: of ZeRO.
        micro_batch_size, global_batch_size: sequences.
        wanted_batch_size: sequences that the published fit gives for so many tokens, a power of two.
        sequence_length: tokens of each.
        steps: that hours and text allow; 0: not one.
        tokens_per_second: of all ranks.
        is_text_limited: whether the text ends before the hours do.
    """

    stage: int
    micro_batch_size: int
    global_batch_size: int
    wanted_batch_size: int
    sequence_length: int
    steps: int
    tokens_per_second: float
    is_text_limited: bool

    @property
    def tokens(self) -> int:
        """Of the whole run."""
        return self.steps * self.global_batch_size * self.sequence_length


def shipped_zero_json(stage: int) -> dict[str, Any]:
    """ds_configs/zeroN.json as this plan counts with it (a test holds that the file says the same)."""
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 100_000_000,
    }
    if stage < 3:
        zero["allgather_bucket_size"] = 100_000_000
    else:
        zero |= {
            "stage3_prefetch_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
        }
    return {"zero_optimization": zero}


def batch_sequences(tokens: float, length: int) -> int:
    """Sequences of a global batch for a run of so many tokens: the power of two nearest to the published fit.

    At most a thousandth of all tokens, so that there are steps enough to learn in, and at most 2^20 tokens.

    Args:
        tokens: of the whole run.
        length: tokens of a sequence.
    """
    nearest = round(math.log2(max(1.0, batch_tokens_for(tokens) / length)))
    most = math.floor(math.log2(max(1.0, min(MOST_BATCH_TOKENS, tokens / LEAST_STEPS) / length)))
    return int(2 ** min(nearest, most))


def best_way(model: ModelSection, length: int, cluster: Cluster, precision: str, budget: Budget) -> Way | None:
    """The fastest of the ZeRO stages and micro batches that fit; None: none does.

    Args:
        model: a resolved section.
        length: tokens of a sequence.
        cluster: what it is trained on.
        precision: of the arithmetic.
        budget: hours and text.
    """
    ways = list(_ways(model, length, cluster, precision, budget))
    if not ways:
        return None
    best = max(way.tokens_per_second for way in ways)
    good = [way for way in ways if way.tokens_per_second >= NEARLY_AS_FAST * best]
    enough = [way for way in good if way.micro_batch_size * length >= LEAST_MICRO_TOKENS]
    return min(enough or good, key=lambda way: (way.stage, way.micro_batch_size))


def _ways(model: ModelSection, length: int, cluster: Cluster, precision: str, budget: Budget) -> Iterator[Way]:
    """Every stage and micro batch that fits; a micro batch above 1 only where all ranks' are no more than the batch."""
    for stage in (1,) if cluster.world_size == 1 else (1, 2, 3):
        for power in range(int(math.log2(MOST_MICRO_TOKENS // length)) + 1):
            way = _way(model, length, cluster, precision, budget, stage, 2**power)
            if way is None:
                break
            if power == 0 or way.micro_batch_size * cluster.world_size <= way.wanted_batch_size:
                yield way


def _way(
    model: ModelSection, length: int, cluster: Cluster, precision: str, budget: Budget, stage: int, micro: int
) -> Way | None:
    """One stage and micro batch; None: it does not fit.

    The batch follows from the run's tokens, these from the speed, and the speed from the batch, by which what a step costs
    once is shared. So all three are found in turns, from a batch of half a million tokens on.
    """
    unit = micro * cluster.world_size
    accumulation = max(1, 2**19 // (unit * length))
    for turns_left in reversed(range(4)):
        layout = _layout(stage, precision, cluster, accumulation)
        step = predict_step(model, layout, cluster, micro, length, load_constants())
        rate = accumulation * unit * length / step.total
        tokens = min(budget.tokens, budget.seconds * rate)
        wanted = batch_sequences(tokens, length)
        fitting = 2 ** (max(1, wanted // unit).bit_length() - 1)
        if fitting == accumulation or not turns_left:
            break
        accumulation = fitting
    memory = plan_memory(model, layout, micro, length, reserve=layout.kernels == "cuda")
    if memory.total > cluster.gpu.memory_bytes:
        return None
    return Way(
        stage=stage,
        micro_batch_size=micro,
        global_batch_size=accumulation * unit,
        wanted_batch_size=wanted,
        sequence_length=length,
        steps=math.floor(tokens / (accumulation * unit * length)),
        tokens_per_second=rate,
        is_text_limited=budget.tokens < budget.seconds * rate,
    )


def _layout(stage: int, precision: str, cluster: Cluster, accumulation: int) -> Layout:
    return layout_of(
        shipped_zero_json(stage),
        precision=precision,
        world_size=cluster.world_size,
        accumulation=accumulation,
        kernels="cpu" if cluster.gpu.name == "cpu" else "cuda",
        optimizer=OPTIMIZER,
    )
