"""A prediction as plain values for ``--json``, and a proposal's recipe as a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from zhgpt.config.description import describe_experts
from zhgpt.config.fits import HIGHEST_RATE, SOURCE, is_extrapolated
from zhgpt.config.quantities import count_text, duration_text
from zhgpt.config.yaml_text import parse_yaml
from zhgpt.errors import SettingError
from zhgpt.plan.predict import Prediction
from zhgpt.plan.proposal_words import notes_on
from zhgpt.plan.propose import Proposal
from zhgpt.plan.scaling_curve import Expectation, error_on_left_out
from zhgpt.plan.words import (
    Language,
    assumptions,
    proposal_sentence,
    rate_cannot_train,
    sentences,
    verdict,
    warnings_in,
)


def as_values(prediction: Prediction, language: Language) -> dict[str, Any]:
    """Everything that the tables show, with units in the names."""
    cluster, memory, step = prediction.cluster, prediction.memory, prediction.step
    return {
        "gpu": cluster.gpu.name,
        "nodes": cluster.nodes,
        "gpus_per_node": cluster.gpus_per_node,
        "interconnect": cluster.interconnect if cluster.nodes > 1 else None,
        "estimate": None if prediction.estimate is None else prediction.estimate.text(language),
        "assumed": assumptions(prediction, language) or None,
        "model": {
            "parameters": prediction.count.total,
            "active_parameters": prediction.count.active,
            "flops_per_token": prediction.flops_per_token,
            "experts": describe_experts(prediction.model, prediction.config.train.ep_size) or None,
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
        "bits_per_byte": None if rate_cannot_train(prediction) else _expectation_values(prediction.expectation),
        "curve_error_on_left_out_run": error_on_left_out()[1],
        "warnings": warnings_in(prediction, language),
        "warning_kinds": [sentence.kind for sentence in sentences(prediction)],
        "verdict": {"kind": verdict(prediction).kind, "text": verdict(prediction).text(language)},
    }


def _expectation_values(expectation: Expectation) -> dict[str, Any]:
    """The band, and the curve's own number where it is one to go by."""
    values = asdict(expectation)
    return values if expectation.extrapolated is None else {**values, "bits_per_byte": None}


def proposal_values(proposal: Proposal, recipe: str | None, language: Language) -> dict[str, Any]:
    """What a proposal is beside its prediction.

    Args:
        proposal: made by `propose`.
        recipe: the file that it was written to; None: it was not.
        language: of the sentences.
    """
    larger = proposal.larger
    return {
        "recipe": recipe,
        "zero_stage": proposal.stage,
        "limited_by": proposal.limited_by,
        "useful_text_gb": proposal.useful_text_gb,
        "fitted_batch_tokens": proposal.fitted_batch_tokens,
        "larger": None if larger is None else as_values(larger, language),
        "text": proposal_sentence(proposal).text(language),
        "notes": [note.text(language) for note in notes_on(proposal)],
        "config": proposal.prediction.config.model_dump(mode="json"),
    }


def recipe_text(proposal: Proposal, command: str) -> str:
    """The proposal as a recipe: what it is, where its numbers are from, and only the settings that are its own."""
    config = proposal.prediction.config
    model, train = config.model, config.train
    body = f"""\
run:
  name: {yaml_scalar(config.run.name)}
data:
  train: {yaml_scalar(str(config.data.train))}
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


def yaml_scalar(text: str) -> str:
    """The text as a value in YAML: plain where it is read back as it is, else in quotation marks (12, null, a # b)."""
    try:
        is_plain = parse_yaml(f"key: {text}", text).value == {"key": text}
    except SettingError:
        is_plain = False
    return text if is_plain else json.dumps(text, ensure_ascii=False)


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
        *_rate_and_batch(proposal),
        "# Optimizer and schedule: what learned most from a token here (docs/recipe.md). Muon's step is scaled to AdamW's, whose",
        "# rates serve it (Liu et al. 2025, arXiv 2502.16982).",
        "# A rate found with a narrower model: model.mup_base_width, and a test before it is trusted",
        "# (docs/architecture_options.md, Width).",
        f"# {plan.tokens_per_second:,.0f} tokens a second and {plan.memory.total / 2**30:.1f} GiB a GPU with "
        f"ds_configs/zero{proposal.stage}.json.",
        f"# Memory and time are {state}.",
    ]


def _rate_and_batch(proposal: Proposal) -> list[str]:
    """Where learning rate and batch are from."""
    plan = proposal.prediction
    batch, size = plan.batch, count_text(plan.count.non_embedding)
    lines = [
        f"# Learning rate: {plan.config.optim.peak:g}, what optim.learning_rate auto gives for {size} parameters without tables",
        f"# and so many tokens ({SOURCE}, arXiv 2503.04715).",
    ]
    if plan.config.optim.peak == HIGHEST_RATE:
        lines.append("# It is at a bound of ours: the fit gives more.")
    if is_extrapolated(plan.count.non_embedding, batch.total_tokens):
        lines.append("# Extrapolated: the fit was made on about 60M to 1B parameters and 2B to 100B tokens.")
    sequences = f"# Batch: {batch.global_batch_size} sequences of {batch.sequence_length}, "
    if proposal.fitted_batch_tokens is None:
        return [*lines, f"{sequences}by the same fit."]
    return [*lines, f"{sequences}one a rank; the same fit gives {proposal.fitted_batch_tokens:,} tokens."]
