"""Which options of the architecture go with which model type, as one sentence a problem."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zhgpt.config.rope_section import RopeScalingSection
    from zhgpt.config.schema import ModelSection

ONLY_FOR: dict[str, tuple[str, ...]] = {
    "rms_norm_eps": ("llama", "qwen3"),
    "layer_norm_epsilon": ("gpt2",),
}

ONLY_FOR_ROPE_TYPE: dict[str, tuple[str, ...]] = {
    "original_max_position_embeddings": ("yarn", "llama3"),
    "attention_factor": ("yarn",),
    "beta_fast": ("yarn",),
    "beta_slow": ("yarn",),
    "low_freq_factor": ("llama3",),
    "high_freq_factor": ("llama3",),
}


def position_embedding_of(model: "ModelSection") -> str:
    """How positions enter: as the section says, else as the model type has it."""
    return model.position_embedding or ("learned" if model.model_type == "gpt2" else "rope")


def query_key_norm_of(model: "ModelSection") -> bool:
    """Whether queries and keys are normalised: as the section says, else as the model type has it."""
    return model.model_type == "qwen3" if model.use_qk_norm is None else model.use_qk_norm


def architecture_problems(model: "ModelSection") -> list[str]:
    """What is wrong with the options of a model, whether or not its open values are filled in."""
    return [
        *_other_type_problems(model),
        *_position_problems(model),
        *([] if model.rope_scaling is None else _scaling_problems(model, model.rope_scaling)),
        *_width_problems(model),
    ]


def _other_type_problems(model: "ModelSection") -> list[str]:
    """Settings that say something while the architecture has no place for them."""
    problems = []
    for name, model_types in ONLY_FOR.items():
        value, default = getattr(model, name), type(model).model_fields[name].default
        if model.model_type not in model_types and value != default:
            problems.append(
                f"model.{name} {value} has no effect in {model.model_type} (only in "
                f"{' and '.join(model_types)}); leave it out"
            )
    if model.model_type == "gpt2":
        heads, kv_heads, hidden = model.num_attention_heads, model.num_key_value_heads, model.hidden_size
        if kv_heads is not None and kv_heads != heads and position_embedding_of(model) == "learned":
            problems.append(
                f"model.num_key_value_heads {kv_heads}: gpt2 with learned positions has no grouped-query attention, it would "
                f"have to be {heads}; leave it out, set model.position_embedding to rope, or take llama or qwen3"
            )
        if model.head_dim is not None and model.head_dim * heads != hidden:
            problems.append(
                f"model.head_dim {model.head_dim}: gpt2 has hidden_size / num_attention_heads = {hidden} / "
                f"{heads}; leave it out"
            )
    return problems


def _position_problems(model: "ModelSection") -> list[str]:
    if position_embedding_of(model) == "rope":
        return []
    if model.model_type != "gpt2":
        return [
            f"model.position_embedding learned: {model.model_type} has rotary positions, and no transformers class holds its "
            "layers with learned ones; leave it out, or take gpt2"
        ]
    default = type(model).model_fields["rope_theta"].default
    given = [f"model.rope_theta {model.rope_theta}"] if model.rope_theta != default else []
    given += ["model.rope_scaling"] if model.rope_scaling is not None else []
    return [
        f"{name} has no effect with learned positions (gpt2's); leave it out, or set model.position_embedding to rope"
        for name in given
    ]


def _scaling_problems(model: "ModelSection", scaling: "RopeScalingSection") -> list[str]:
    problems = []
    for name, rope_types in ONLY_FOR_ROPE_TYPE.items():
        value, default = getattr(scaling, name), type(scaling).model_fields[name].default
        if scaling.rope_type not in rope_types and value != default:
            problems.append(
                f"model.rope_scaling.{name} {value:g} has no effect in {scaling.rope_type} (only in "
                f"{' and '.join(rope_types)}); leave it out"
            )
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    if scaling.rope_type == "llama3" and low >= high:
        problems.append(
            f"model.rope_scaling.low_freq_factor {low:g} must be less than model.rope_scaling.high_freq_factor {high:g}"
        )
    if scaling.rope_type == "yarn" and scaling.beta_slow >= scaling.beta_fast:
        problems.append(
            f"model.rope_scaling.beta_slow {scaling.beta_slow:g} must be less than model.rope_scaling.beta_fast "
            f"{scaling.beta_fast:g}"
        )
    original, longest = scaling.original_max_position_embeddings, model.max_position_embeddings
    if original is not None and longest is not None and original > longest:
        problems.append(
            f"model.rope_scaling.original_max_position_embeddings {original} exceeds model.max_position_embeddings {longest}: "
            "scaling is for longer sequences than the original ones"
        )
    return problems


def _width_problems(model: "ModelSection") -> list[str]:
    base = model.mup_base_width
    if base is not None and model.hidden_size < base:
        return [
            f"model.mup_base_width {base} exceeds model.hidden_size {model.hidden_size}: settings are found at the base width "
            "and carried over to wider models; take the narrowest model's hidden_size"
        ]
    return []
