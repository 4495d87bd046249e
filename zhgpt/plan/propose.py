"""A run for some GPUs, some hours and some text: the largest model that they can feed, and how to train it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zhgpt.config.advice import TOKENS_PER_PARAMETER, USEFUL_EPOCHS, usual_learning_rate
from zhgpt.config.data_section import DataSection
from zhgpt.config.loading import resolve_model
from zhgpt.config.schema import ModelSection, RunConfig, RunSection
from zhgpt.errors import SettingError
from zhgpt.model.shape import count_parameters, flops_per_token
from zhgpt.plan.calibration import load_constants
from zhgpt.plan.gpus import Cluster
from zhgpt.plan.memory import Layout, layout_of, plan_memory
from zhgpt.plan.predict import USED_SHARE, Prediction, Text, Wishes, predict
from zhgpt.plan.scaling_curve import BYTES_PER_TOKEN
from zhgpt.plan.step_time import predict_step


@dataclass(frozen=True, slots=True)
class Shape:
    """One rung of the ladder: width, depth, query and key-value heads, tokens a sample."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    sequence_length: int


LADDER = (
    Shape(128, 6, 4, 2, 512),
    Shape(192, 6, 6, 2, 512),
    Shape(256, 8, 4, 2, 1024),
    Shape(320, 8, 5, 5, 1024),
    Shape(384, 8, 6, 2, 1024),
    Shape(384, 12, 6, 2, 1024),
    Shape(512, 10, 8, 4, 1024),
    Shape(512, 14, 8, 4, 1024),
    Shape(640, 14, 10, 5, 1024),
    Shape(768, 12, 12, 4, 1024),
    Shape(768, 16, 12, 4, 1024),
    Shape(896, 16, 14, 7, 1024),
    Shape(1024, 16, 16, 8, 2048),
    Shape(1024, 24, 16, 8, 2048),
    Shape(1280, 24, 20, 5, 2048),
    Shape(1536, 24, 24, 8, 2048),
    Shape(2048, 24, 16, 8, 2048),
)
"""Qwen3 models; widths are multiples of 64, depth grows with width (Kaplan et al. 2020: the ratio hardly matters)."""

OPTIMIZER, SCHEDULE = "muon", "wsd"
"""What learned most from a token in our own comparisons (docs/recipe.md). Muon's step is scaled to the size of AdamW's, so the
usual rates serve it (Liu et al. 2025, arXiv 2502.16982)."""

MOST_BATCH_TOKENS, LEAST_BATCH_TOKENS = 2**20, 2**14
LEAST_STEPS = 1000
MOST_MICRO_TOKENS = 2**16
LEAST_MICRO_TOKENS = 12_288
"""Tokens of the smallest micro-step among the published rows: what fewer cost a GPU, nothing here has measured."""
NEARLY_AS_FAST = 0.98
"""A smaller micro batch with this share of the best rate is taken: it divides on more ranks and leaves memory free."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one model is trained: ZeRO stage, micro batch, and the tokens a second that gives."""

    stage: int
    micro_batch_size: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """A recipe, its DeepSpeed JSON, what it is predicted to take, and what limits it.

    Attributes:
        prediction: with the recipe in it.
        stage: of the JSON in ds_configs.
        limited_by: "hours", "text" or "ladder" (no larger model is proposed).
        useful_text_gb: text that the hours could use, in GB, where the text limits.
    """

    prediction: Prediction
    stage: int
    limited_by: str
    useful_text_gb: float | None


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


def propose(name: str, cluster: Cluster, hours: float, text: Text, wishes: Wishes, data: str = "data/zh") -> Proposal:
    """Choose model, length, batch, rate, ZeRO stage and micro batch.

    The largest model of the ladder that gets 20 tokens a parameter (Hoffmann et al. 2022) within the hours, from text that is
    read at most four times (Muennighoff et al. 2023). Learning rate: what advice.py calls usual at that size. Batch:
    0.2920 compute^0.3271 tokens (DeepSeek LLM, arXiv 2401.02954, section 3), at most a thousandth of all tokens.

    Raises:
        SettingError: nothing on the ladder fits the device.
    """
    precision = precision_for(cluster)
    best: tuple[Shape, Way, float, str] | None = None
    for shape in LADDER:
        model = model_section(shape, text.vocab_size)
        way = best_way(model, shape, cluster, precision)
        if way is None:
            continue
        affordable = hours * 3600 * USED_SHARE * way.tokens_per_second
        readable = math.inf if text.tokens is None else USEFUL_EPOCHS * text.tokens
        tokens = min(affordable, readable)
        limit = "hours" if affordable <= readable else "text"
        if best is not None and tokens < TOKENS_PER_PARAMETER * count_parameters(model).active:
            break
        best = shape, way, tokens, limit
    if best is None:
        raise SettingError(f"no model of the ladder fits a {cluster.gpu.name}, not even with a micro batch of 1")
    shape, way, tokens, limit = best
    return _written(name, cluster, hours, text, wishes, data, shape, way, tokens, limit)


def precision_for(cluster: Cluster) -> str:
    """bf16 where the device has it."""
    return "fp16" if cluster.gpu.half_type == "fp16" else "bf16"


def model_section(shape: Shape, vocab_size: int) -> ModelSection:
    """The resolved model of a rung."""
    return resolve_model(_run_config("x", "x", shape, 1, 1, 1, 1.0, "bf16"), vocab_size)


def best_way(model: ModelSection, shape: Shape, cluster: Cluster, precision: str) -> Way | None:
    """The fastest of the ZeRO stages and micro batches that fit; None: none does."""
    ways = list(_ways(model, shape, cluster, precision))
    if not ways:
        return None
    best = max(way.tokens_per_second for way in ways)
    good = [way for way in ways if way.tokens_per_second >= NEARLY_AS_FAST * best]
    enough = [way for way in good if way.micro_batch_size * shape.sequence_length >= LEAST_MICRO_TOKENS]
    return min(enough or good, key=lambda way: (way.stage, way.micro_batch_size))


def _ways(model: ModelSection, shape: Shape, cluster: Cluster, precision: str) -> Iterator[Way]:
    constants = load_constants()
    length = shape.sequence_length
    # Counted with micro-steps enough for a batch of half a million tokens: what a step costs once is shared by them.
    for stage in (1,) if cluster.world_size == 1 else (1, 2, 3):
        for power in range(int(math.log2(MOST_MICRO_TOKENS // length)) + 1):
            micro = 2**power
            accumulation = max(1, 2**19 // (micro * length * cluster.world_size))
            layout = _layout(stage, precision, cluster, accumulation)
            if plan_memory(model, layout, micro, length, reserve=True).total > cluster.gpu.memory_bytes:
                break
            step = predict_step(model, layout, cluster, micro, length, constants)
            yield Way(stage, micro, accumulation * micro * length * cluster.world_size / step.total)


def _layout(stage: int, precision: str, cluster: Cluster, accumulation: int) -> Layout:
    return layout_of(
        shipped_zero_json(stage),
        precision=precision,
        world_size=cluster.world_size,
        accumulation=accumulation,
        kernels="cpu" if cluster.gpu.name == "cpu" else "cuda",
        optimizer=OPTIMIZER,
    )


def batch_sequences(compute: float, tokens: float, unit: int, length: int) -> int:
    """Sequences of a global batch: near DeepSeek LLM's size for this compute, a power of two of the unit.

    Args:
        compute: FLOPs of the whole run.
        tokens: of the whole run.
        unit: micro batch x ranks.
        length: tokens of a sequence.
    """
    wanted = 0.2920 * compute**0.3271
    wanted = min(max(wanted, LEAST_BATCH_TOKENS), MOST_BATCH_TOKENS, max(tokens / LEAST_STEPS, length))
    return unit * 2 ** max(0, round(math.log2(max(1.0, wanted / (unit * length)))))


def _written(
    name: str,
    cluster: Cluster,
    hours: float,
    text: Text,
    wishes: Wishes,
    data: str,
    shape: Shape,
    way: Way,
    tokens: float,
    limit: str,
) -> Proposal:
    """The chosen rung as a recipe, cut to what the exact batch takes in the hours."""
    precision = precision_for(cluster)
    model = model_section(shape, text.vocab_size)
    parameters = count_parameters(model).active
    compute = tokens * flops_per_token(model, shape.sequence_length)
    micro = way.micro_batch_size
    while micro > 1 and micro * cluster.world_size * shape.sequence_length > max(
        tokens / LEAST_STEPS, LEAST_BATCH_TOKENS
    ):
        micro //= 2
    size = batch_sequences(compute, tokens, micro * cluster.world_size, shape.sequence_length)
    rate = float(f"{usual_learning_rate(parameters):.1e}")
    steps = max(1, math.floor(tokens / (size * shape.sequence_length)))
    ds_json = shipped_zero_json(way.stage)

    def predicted(steps: int) -> Prediction:
        config = _run_config(name, data, shape, steps, size, micro, rate, precision)
        return predict(config, ds_json, cluster, text, wishes)

    prediction = predicted(steps)
    within = math.floor(hours * 3600 * USED_SHARE / prediction.step.total)
    if within < steps:
        prediction = predicted(max(1, within))
    useful = None
    if limit == "text":
        rate_now = prediction.tokens_per_second
        useful = hours * 3600 * USED_SHARE * rate_now * BYTES_PER_TOKEN / USEFUL_EPOCHS / 1e9
    elif shape is LADDER[-1]:
        limit = "ladder"
    return Proposal(prediction, way.stage, limit, useful)


def _run_config(
    name: str, data: str, shape: Shape, steps: int, size: int, micro: int, rate: float, precision: str
) -> RunConfig:
    every = max(1, round(steps / 20 / 10) * 10) if steps >= 200 else max(1, steps // 10)
    values: dict[str, Any] = {
        "run": RunSection(name=name),
        "data": DataSection(train=data, sequence_length=shape.sequence_length),
        "model": {
            "model_type": "qwen3",
            "hidden_size": shape.hidden_size,
            "num_hidden_layers": shape.num_hidden_layers,
            "num_attention_heads": shape.num_attention_heads,
            "num_key_value_heads": shape.num_key_value_heads,
        },
        "optim": {"name": OPTIMIZER, "learning_rate": rate},
        "schedule": {"name": SCHEDULE},
        "train": {
            "steps": steps,
            "global_batch_tokens": size * shape.sequence_length,
            "micro_batch_size": micro,
            "precision": precision,
        },
        "evaluate": {"every_steps": every, "samples": 1024},
        "checkpoint": {"every_steps": every},
    }
    return RunConfig.model_validate(values)
