"""What a run will do, as text: for `--dry-run` and the first lines of a run. No accelerator, no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zhgpt.config.advice import RunNumbers, SourceReading
from zhgpt.config.architecture_checks import position_embedding_of, query_key_norm_of
from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.deepspeed_json import zero_stage
from zhgpt.config.derived import peak_learning_rate, warmup_steps
from zhgpt.config.moe_checks import experts_in
from zhgpt.config.optim_groups import describe_optimizer
from zhgpt.config.quantities import count_text
from zhgpt.config.schedule_checks import branch_step
from zhgpt.config.schema import ModelSection, RunConfig


def describe_run(
    config: RunConfig,
    plan: BatchPlan,
    model: ModelSection,
    deepspeed_config: Mapping[str, Any],
    numbers: RunNumbers,
    *,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> str:
    """The whole plan of a run in one text: facts, notes, warnings, and the JSON DeepSpeed gets.

    Args:
        config: the run's settings.
        plan: batch arithmetic at this world size.
        model: the resolved model.
        deepspeed_config: composed by `compose_deepspeed_config`.
        numbers: parameters, FLOPs and data.
        notes: what was chosen and why (`composition_notes`, the offload Adam, the attention backend).
        warnings: of `advice_for`, in English.
    """
    facts = run_facts(config, plan, model, deepspeed_config, numbers)
    width = max(len(name) for name in facts)
    lines = [f"run {config.run.name} in {config.run.run_dir}"]
    lines += [f"  {name:<{width}}  {value}" for name, value in facts.items()]
    lines += [f"note: {note}" for note in notes]
    lines += [f"warning: {warning}" for warning in warnings]
    return "\n".join([*lines, "DeepSpeed gets:", json.dumps(deepspeed_config, indent=2)])


def run_facts(
    config: RunConfig,
    plan: BatchPlan,
    model: ModelSection,
    deepspeed_config: Mapping[str, Any],
    numbers: RunNumbers,
) -> dict[str, str]:
    """One line a subject, by name: model, parameters, compute, batch, length, data, optimizer, schedule, precision."""
    options = describe_options(model, config.train.z_loss_coef)
    experts = describe_experts(model, config.train.ep_size)
    facts = {
        "model": describe_model(model),
        **({"options": options} if options else {}),
        **({"experts": experts} if experts else {}),
        "parameters": f"{numbers.parameters:,} ({count_text(numbers.parameters)}): "
        f"{count_text(numbers.embedding_parameters)} in tables, "
        f"{count_text(numbers.parameters - numbers.embedding_parameters)} in layers"
        + (f"; {count_text(numbers.active)} are active for a token" if model.moe else ""),
        "compute": f"{numbers.flops_per_token:.3g} FLOPs a token, {numbers.flops_per_token * plan.tokens_per_step:.3g} "
        f"a step, {numbers.flops_per_token * plan.total_tokens:.3g} in all",
        "batch": describe_batch(plan),
        **describe_stages(plan),
        "length": f"{describe_length(plan)} = {count_text(plan.total_tokens)} tokens = "
        f"{plan.total_tokens / numbers.active:.3g} tokens {'an active' if model.moe else 'a'} parameter",
    }
    if numbers.sources and numbers.train_tokens is not None:
        facts["data"] = f"blend of {len(numbers.sources)} sources, {numbers.train_tokens:,} tokens to train on"
        facts |= {f"  {source.name}": describe_reading(source, numbers.sources) for source in numbers.sources}
    elif numbers.train_tokens is not None:
        facts["data"] = (
            f"{config.data.train}: {numbers.train_tokens:,} tokens to train on, read "
            f"{plan.total_tokens / numbers.train_tokens:.3g} times"
        )
    rate = peak_learning_rate(config, plan, numbers.non_embedding)
    facts["optimizer"] = describe_optimizer(config.optim.model_copy(update={"learning_rate": rate}))
    facts["schedule"] = describe_schedule(config, plan)
    recomputed = len(config.train.layers_to_recompute(model.num_hidden_layers))
    checkpointing = (
        f", activation checkpointing of {recomputed} of {model.num_hidden_layers} layers" if recomputed else ""
    )
    facts["precision"] = f"{config.train.precision}, ZeRO stage {zero_stage(deepspeed_config)}{checkpointing}"
    return facts


def describe_reading(source: SourceReading, sources: Sequence[SourceReading]) -> str:
    """What a run takes from one source of its blend, in one line."""
    share = source.samples / max(1, sum(other.samples for other in sources))
    return (
        f"{100 * share:.4g} % of the samples: {count_text(source.read_tokens)} tokens of {count_text(source.tokens)}, "
        f"read {source.epochs:.3g} times"
    )


def describe_batch(plan: BatchPlan) -> str:
    """The batch arithmetic, readable as an equation."""
    return (
        f"micro {plan.micro_batch_size} × accumulation {plan.gradient_accumulation_steps} × ranks "
        f"{plan.data_parallel_size} = {plan.global_batch_size} sequences × {plan.sequence_length:,} tokens = "
        f"{plan.tokens_per_step:,} tokens a step"
    )


def describe_stages(plan: BatchPlan) -> dict[str, str]:
    """One line a stage where batch or rows change on the way, named by its steps; nothing where they do not."""
    stages = plan.reached_stages
    if len(stages) == 1 and stages[0] == plan.stages[-1]:
        return {}
    ends = [*(stage.first_step for stage in stages[1:]), plan.steps]
    lines = {}
    for stage, end in zip(stages, ends, strict=True):
        rows = plan.sequence_length // stage.sequence_length
        cut = f", each cut into {rows} rows of {stage.sequence_length:,}" if rows > 1 else ""
        tokens = plan.tokens_before(end) - plan.tokens_before(stage.first_step)
        lines[f"  steps {stage.first_step:,} to {end - 1:,}"] = (
            f"micro {plan.micro_batch_size} × accumulation {stage.gradient_accumulation_steps} × ranks "
            f"{plan.data_parallel_size} = {stage.global_batch_size} sequences{cut}: samples {stage.first_sample:,} to "
            f"{plan.samples_before(end) - 1:,}, {count_text(tokens)} tokens"
        )
    return lines


def describe_length(plan: BatchPlan) -> str:
    """The steps of a run, times their tokens where all have as many."""
    if len({stage.global_batch_size for stage in plan.reached_stages}) > 1:
        return f"{plan.steps:,} steps"
    return f"{plan.steps:,} steps × {plan.total_tokens // plan.steps:,} tokens"


def describe_model(model: ModelSection) -> str:
    """A resolved model in one line."""
    shared = (
        "" if model.num_key_value_heads == model.num_attention_heads else f" ({model.num_key_value_heads} key-value)"
    )
    tied = "tied" if model.tie_word_embeddings else "untied"
    heads = f"{model.num_attention_heads} heads{shared} of {model.head_dim}"
    vocabulary = f"vocabulary {model.vocab_size} padded to {model.padded_vocab_size}, {tied}"
    return (
        f"{model.model_type}: {model.num_hidden_layers} layers of {model.hidden_size}, {heads}, feed-forward "
        f"{model.intermediate_size}, {vocabulary}"
    )


RESIDUAL_INITS = {
    "by_depth": "projections into the residual stream begin smaller by depth",
    "plain": "projections into the residual stream begin as any matrix",
    "zero": "projections into the residual stream begin at zero",
}


def describe_options(model: ModelSection, z_loss_coef: float) -> str:
    """What is otherwise than the model type has it, in one line; empty for nothing."""
    usual = type(model)(model_type=model.model_type)
    parts = []
    if position_embedding_of(model) != position_embedding_of(usual):
        parts.append("rotary positions")
    if model.rope_theta != usual.rope_theta:
        parts.append(f"rope theta {model.rope_theta:g}")
    if model.rope_scaling is not None:
        parts.append(f"rope scaling {model.rope_scaling.rope_type} × {model.rope_scaling.factor:g}")
    if query_key_norm_of(model) != query_key_norm_of(usual):
        parts.append(f"queries and keys {'normalised' if model.use_qk_norm else 'not normalised'}")
    parts += ["embedding norm"] * model.embedding_norm
    if model.residual_init in RESIDUAL_INITS:
        parts.append(RESIDUAL_INITS[model.residual_init])
    if model.mup_base_width is not None:
        ratio = model.hidden_size / model.mup_base_width
        parts.append(f"muP from width {model.mup_base_width} (× {ratio:g}: matrices' learning rate / {ratio:g})")
    parts += [f"z-loss {z_loss_coef:g}"] * bool(z_loss_coef)
    return "; ".join(parts)


def describe_experts(model: ModelSection, ep_size: int) -> str:
    """The mixture of experts of a resolved model in one line; empty for a dense one."""
    moe = model.moe
    if moe is None:
        return ""
    counts = experts_in(moe, model.num_hidden_layers)
    numbers = "/".join(str(count) for count in dict.fromkeys(counts.values()))
    shared = f" + {moe.n_shared_experts} shared" if moe.n_shared_experts else ""
    balanced = [f"auxiliary loss {moe.router_aux_loss_coef:g} ({moe.router_aux_loss_scope})"] * bool(
        moe.router_aux_loss_coef
    )
    balanced += [f"selection bias {moe.bias_update_rate:g}"] * bool(moe.bias_update_rate)
    capacity = f", capacity factor {moe.capacity_factor:g}" if moe.layer == "deepspeed" and moe.drop_tokens else ""
    return (
        f"{moe.layer}: top-{moe.num_experts_per_tok} of {numbers}{shared} of width {moe.moe_intermediate_size} in "
        f"{len(counts)} of {model.num_hidden_layers} layers{capacity}, balanced by {' and '.join(balanced) or 'nothing'}, "
        f"expert-parallel size {ep_size}"
    )


def describe_schedule(config: RunConfig, plan: BatchPlan) -> str:
    """The learning rate's course in one line."""
    schedule, steps = config.schedule, config.train.steps
    if schedule.name == "range_test":
        return f"range test: from {schedule.minimum_ratio:g} of the peak up to it at step {steps:,}"
    start = f"{schedule.name}, warm-up {warmup_steps(config, plan):,} steps"
    if schedule.name == "constant":
        return start
    end = f"down to {schedule.minimum_ratio:g} of the peak"
    if schedule.name == "wsd":
        branch = branch_step(config)
        decay = schedule.decay_steps(steps) if branch is None else steps - branch
        shape = "" if schedule.decay_shape == "linear" else " as 1 - sqrt"
        return f"{start}, the last {decay:,} of {steps:,} steps {end}{shape}"
    return f"{start}, then {end} at step {steps:,}"
