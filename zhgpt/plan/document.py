"""A prediction as plain values for ``--json``, and a proposal's recipe as a file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zhgpt.config.quantities import count_text, duration_text
from zhgpt.plan.predict import Prediction
from zhgpt.plan.propose import Proposal
from zhgpt.plan.words import Language, rate_cannot_train, sentences, verdict, warnings_in


def as_values(prediction: Prediction, language: Language) -> dict[str, Any]:
    """Everything that the tables show, with units in the names."""
    cluster, memory, step = prediction.cluster, prediction.memory, prediction.step
    return {
        "gpu": cluster.gpu.name,
        "nodes": cluster.nodes,
        "gpus_per_node": cluster.gpus_per_node,
        "estimate": prediction.estimate,
        "assumed": prediction.text.assumed or None,
        "model": {
            "parameters": prediction.count.total,
            "active_parameters": prediction.count.active,
            "flops_per_token": prediction.flops_per_token,
        },
        "batch": asdict(prediction.batch),
        "learning_rate": prediction.config.optim.peak,
        "zero_stage": prediction.layout.stage,
        "memory": {
            "fits": prediction.fits,
            "moment": memory.moment,
            "total_bytes": round(memory.total),
            "device_bytes": round(cluster.gpu.memory_bytes),
            "host_bytes": round(memory.host_bytes),
            "parts_bytes": {name: round(size) for name, size in memory.parts.items()},
        },
        "step": {**{f"{name}_seconds": value for name, value in asdict(step).items()}, "seconds": step.total},
        "tokens_per_second": prediction.tokens_per_second,
        "mfu": prediction.mfu,
        "seconds": prediction.seconds,
        "days": prediction.seconds / 86400,
        "kilowatt_hours": prediction.kilowatt_hours,
        "money": prediction.money,
        "tokens_per_parameter": prediction.tokens_per_parameter,
        "epochs": prediction.epochs,
        "bits_per_byte": None if rate_cannot_train(prediction) else asdict(prediction.expectation),
        "warnings": warnings_in(prediction, language),
        "warning_kinds": [sentence.kind for sentence in sentences(prediction)],
        "verdict": {"kind": verdict(prediction).kind, "text": verdict(prediction).text(language)},
    }


def recipe_text(proposal: Proposal, command: str) -> str:
    """The proposal as a recipe: what it is, where its numbers are from, and only the settings that are its own."""
    config = proposal.prediction.config
    model, train = config.model, config.train
    body = f"""\
run:
  name: {config.run.name}
data:
  train: {config.data.train}
  sequence_length: {config.data.sequence_length}
model:
  model_type: {model.model_type}
  hidden_size: {model.hidden_size}
  num_hidden_layers: {model.num_hidden_layers}
  num_attention_heads: {model.num_attention_heads}
  num_key_value_heads: {model.num_key_value_heads}
optim:
  name: {config.optim.name}
  learning_rate: {config.optim.peak:g}
schedule:
  name: {config.schedule.name}
  warmup_steps: {config.schedule.warmup_steps}
train:
  steps: {train.steps}
  global_batch_tokens: {train.global_batch_tokens}
  micro_batch_size: {train.micro_batch_size}
  precision: {train.precision}
evaluate:
  every_steps: {config.evaluate.every_steps}
  samples: {config.evaluate.samples}
checkpoint:
  every_steps: {config.checkpoint.every_steps}
"""
    return "\n".join(_comments(proposal, command)) + "\n" + body


def _comments(proposal: Proposal, command: str) -> list[str]:
    """The head of the recipe."""
    plan = proposal.prediction
    batch, where = plan.batch, f"{plan.cluster.world_size} x {plan.cluster.gpu.name}"
    state = "estimates; not run on a GPU yet" if plan.estimate else "predictions"
    return [
        f"# {count_text(plan.count.total)} parameters at a vocabulary of {plan.text.vocab_size}; {duration_text(plan.seconds)} "
        f"on {where}. Loads as Qwen3ForCausalLM.",
        f"# Written by {command}",
        "#",
        f"# Length: {batch.steps:,} steps x {batch.tokens_per_step:,} tokens = {batch.total_tokens / 1e9:.2f}B tokens = "
        f"{plan.tokens_per_parameter:.1f} tokens a parameter.",
        f"# Learning rate: {plan.config.optim.peak:g}, usual at this size (Brown et al. 2020, table 2.1; below 125M "
        "Kaplan et al. 2020).",
        "# Optimizer and schedule: what learned most from a token here (docs/recipe.md); Muon's step is scaled to AdamW's rates.",
        f"# Batch: {batch.global_batch_size} sequences of {batch.sequence_length}, near DeepSeek LLM's size for this compute "
        "(arXiv 2401.02954).",
        f"# {plan.tokens_per_second:,.0f} tokens a second and {plan.memory.total / 2**30:.1f} GiB a GPU with "
        f"ds_configs/zero{proposal.stage}.json.",
        f"# Memory and time are {state}.",
    ]
