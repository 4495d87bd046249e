"""Checks over several settings at once: what each is fine alone and wrong together, as one sentence a problem."""

from typing import TYPE_CHECKING

from zhgpt.config.architecture_checks import architecture_problems, position_embedding_of
from zhgpt.config.data_checks import data_problems
from zhgpt.config.moe_checks import moe_problems
from zhgpt.config.optim_groups import optim_problems
from zhgpt.config.schedule_checks import schedule_problems

if TYPE_CHECKING:
    from zhgpt.config.schema import ModelSection, RunConfig


def cross_section_problems(config: "RunConfig") -> list[str]:
    """Everything that cannot go together in `config`, one sentence each; empty when all is well."""
    return [
        *data_problems(config.data, config.train.steps),
        *_batch_problems(config),
        *_launch_problems(config),
        *model_problems(config.model, config.data.sequence_length),
        *_expert_parallel_problems(config),
        *_recomputation_problems(config),
        *_kernel_problems(config),
        *schedule_problems(config),
        *_spike_problems(config),
        *optim_problems(config),
    ]


def _batch_problems(config: "RunConfig") -> list[str]:
    train = config.train
    if train.global_batch_tokens is not None and train.global_batch_size is not None:
        return [
            f"train.global_batch_tokens {train.global_batch_tokens} and train.global_batch_size "
            f"{train.global_batch_size} are both given: keep one, set the other to null"
        ]
    return []


def _launch_problems(config: "RunConfig") -> list[str]:
    world_size, hosts = config.launch.world_size, config.launch.hosts
    if world_size is not None and hosts is not None and world_size % hosts:
        return [f"launch.world_size {world_size} is not a multiple of launch.hosts {hosts}"]
    return []


def _kernel_problems(config: "RunConfig") -> list[str]:
    train = config.train
    if train.kernels == "torch":
        return []
    problems = []
    if train.compile == "blocks":
        problems.append(
            f"train.kernels {train.kernels} does not go with train.compile blocks: compiled, these kernels have given wrong "
            "numbers; set one of them back to its default"
        )
    if config.model.model_type == "gpt2":
        problems.append(
            f"train.kernels {train.kernels} has no effect in gpt2: it has neither RMSNorm nor SwiGLU; leave it out"
        )
    return problems


def _recomputation_problems(config: "RunConfig") -> list[str]:
    train, layers = config.train, config.model.num_hidden_layers
    chosen = train.recomputed_layers
    if chosen is None:
        return []
    if not train.activation_checkpointing:
        return [
            "train.recomputed_layers has no effect without train.activation_checkpointing=true; set it, or leave it out"
        ]
    if isinstance(chosen, int):
        if not 1 <= chosen <= layers:
            return [f"train.recomputed_layers {chosen}: every n-th of {layers} layers needs n from 1 to {layers}"]
        return []
    wrong = sorted({index for index in chosen if not 0 <= index < layers})
    problems = [
        f"train.recomputed_layers: there is no layer {index}; they go from 0 to {layers - 1}" for index in wrong
    ]
    if not chosen or len(set(chosen)) < len(chosen):
        problems.append(f"train.recomputed_layers {list(chosen)} is empty or names a layer twice; name each once")
    return problems


def _expert_parallel_problems(config: "RunConfig") -> list[str]:
    ep_size, moe = config.train.ep_size, config.model.moe
    if ep_size == 1:
        return []
    if moe is None:
        return [f"train.ep_size {ep_size}: the model has no experts to share; leave it out, or give model.moe"]
    if moe.layer == "reference":
        return [f"train.ep_size {ep_size}: the reference layer has all experts on each rank; take layer dropless"]
    return [
        f"train.ep_size {ep_size} does not divide the {count} experts of a layer (model.moe)"
        for count in sorted({moe.num_experts, *moe.num_experts_by_layer})
        if count % ep_size
    ]


def _spike_problems(config: "RunConfig") -> list[str]:
    if config.health.on_spike == "roll_back" and config.data.order == "megatron":
        return [
            "health.on_spike roll_back reads samples past the run's planned ones, and data.order megatron has none: its order "
            "depends on how many there are; take data.order index_free, or health.on_spike skip"
        ]
    return []


def model_problems(model: "ModelSection", sequence_length: int) -> list[str]:
    """What is wrong with the model's shape, whether or not its open values are filled in."""
    problems = [*_head_problems(model), *architecture_problems(model), *moe_problems(model)]
    if model.max_position_embeddings is not None and model.max_position_embeddings < sequence_length:
        problems.append(
            f"model.max_position_embeddings {model.max_position_embeddings} is less than data.sequence_length "
            f"{sequence_length}; raise it or leave it out"
        )
    return problems


def _head_problems(model: "ModelSection") -> list[str]:
    heads, kv_heads, hidden = model.num_attention_heads, model.num_key_value_heads, model.hidden_size
    problems = []
    head_dim = model.head_dim
    if head_dim is None and hidden % heads:
        problems.append(
            f"model.hidden_size {hidden} is not a multiple of model.num_attention_heads {heads}; "
            f"nearest: {nearest_multiples(hidden, heads)}"
        )
    elif head_dim is None:
        head_dim = hidden // heads
    if position_embedding_of(model) == "rope" and head_dim is not None and head_dim % 2:
        problems.append(
            f"model.head_dim {head_dim} is odd: rotary positions ({model.model_type}) turn pairs of values; "
            f"take {head_dim + 1}"
        )
    if kv_heads is not None and position_embedding_of(model) == "rope" and heads % kv_heads:
        fitting = ", ".join(str(count) for count in range(1, heads + 1) if heads % count == 0)
        problems.append(
            f"model.num_attention_heads {heads} is not a multiple of model.num_key_value_heads {kv_heads}; "
            f"{heads} heads can share {fitting}"
        )
    return problems


def nearest_multiples(value: int, unit: int) -> str:
    """The multiples of `unit` around `value`, as text: "384, 512" (only the upper one below the first)."""
    below = value // unit * unit
    return ", ".join(str(multiple) for multiple in (below, below + unit) if multiple > 0)
