"""The models that a proposal chooses among, and each as the settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zhgpt.config.data_section import DataSection
from zhgpt.config.loading import resolve_model
from zhgpt.config.schema import ModelSection, RunConfig, RunSection


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
rates of AdamW serve it (Liu et al. 2025, arXiv 2502.16982)."""


def model_section(shape: Shape, vocab_size: int) -> ModelSection:
    """The resolved model of a rung."""
    return resolve_model(run_config("x", "x", shape, 1, 1, 1, "bf16"), vocab_size)


def run_config(
    name: str, data: str, shape: Shape, steps: int, global_batch_size: int, micro_batch_size: int, precision: str
) -> RunConfig:
    """A run of a rung; its learning rate is `auto`, what the published fit gives for its size and length."""
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
        "optim": {"name": OPTIMIZER, "learning_rate": "auto"},
        "schedule": {"name": SCHEDULE},
        "train": {
            "steps": steps,
            "global_batch_tokens": global_batch_size * shape.sequence_length,
            "micro_batch_size": micro_batch_size,
            "precision": precision,
        },
        "evaluate": {"every_steps": every, "samples": 1024},
        "checkpoint": {"every_steps": every},
    }
    return RunConfig.model_validate(values)
