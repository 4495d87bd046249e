"""How each transformers class wants its config and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zhgpt.export.hf_mixtures import (
    corrected_weights,
    dots1_fields,
    glm4_moe_fields,
    mixtral_fields,
    mixtral_weights,
    qwen3_moe_fields,
)
from zhgpt.export.hf_weights import gpt2_weights, llama_weights, starcoder2_weights
from zhgpt.model.rotary import attention_factor
from zhgpt.model.shape import DecoderShape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class TransformersFormat:
    """How a model is written for one class of transformers.

    Attributes:
        model_type: what its config calls it.
        config: shape and initializer_range -> keywords of the class's config.
        weights: our state dict -> the class's.
    """

    model_type: str
    config: Callable[[DecoderShape, float], dict[str, Any]]
    weights: Callable[[Mapping[str, Tensor], DecoderShape], dict[str, Tensor]]


def transformers_config(
    architecture: str, shape: DecoderShape, initializer_range: float, dtype: str, end_of_text_id: int, padding_id: int
) -> PreTrainedConfig:
    """Return the config that ``AutoModelForCausalLM`` reads; documents start and end with the end-of-text token."""
    from transformers import AutoConfig

    form = FORMATS[architecture]
    return AutoConfig.for_model(
        form.model_type,
        **form.config(shape, initializer_range),
        architectures=[architecture],
        vocab_size=shape.vocab_size,
        tie_word_embeddings=shape.tie_word_embeddings,
        dtype=dtype,
        bos_token_id=end_of_text_id,
        eos_token_id=end_of_text_id,
        pad_token_id=padding_id,
    )


def _gpt2_config(shape: DecoderShape, initializer_range: float) -> dict[str, Any]:
    return {
        "n_positions": shape.max_position_embeddings,
        "n_embd": shape.hidden_size,
        "n_layer": shape.num_hidden_layers,
        "n_head": shape.num_attention_heads,
        "n_inner": shape.intermediate_size,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": shape.norm_epsilon,
        "initializer_range": initializer_range,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def _llama_config(shape: DecoderShape, initializer_range: float) -> dict[str, Any]:
    return {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_position_embeddings,
        "hidden_act": "silu",
        "initializer_range": initializer_range,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_parameters": _rope_parameters(shape),
        "attention_bias": False,
    }


def _starcoder2_config(shape: DecoderShape, initializer_range: float) -> dict[str, Any]:
    return {
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "max_position_embeddings": shape.max_position_embeddings,
        "hidden_act": "gelu_pytorch_tanh",
        "initializer_range": initializer_range,
        "norm_epsilon": shape.norm_epsilon,
        "rope_parameters": _rope_parameters(shape),
        "use_bias": True,
        "sliding_window": None,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
    }


def _rope_parameters(shape: DecoderShape) -> dict[str, Any]:
    """Theta and scaling as transformers has them; each type takes its own keys and no others."""
    scaling = shape.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": shape.rope_theta}
    found = {"rope_type": scaling.rope_type, "rope_theta": shape.rope_theta, "factor": scaling.factor}
    if scaling.rope_type in ("yarn", "llama3"):
        original = scaling.original_max_position_embeddings or shape.max_position_embeddings
        found["original_max_position_embeddings"] = original
    if scaling.rope_type == "yarn":
        found |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        found["attention_factor"] = attention_factor(scaling)
    if scaling.rope_type == "llama3":
        found |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    return found


def _with(fields: Callable[[DecoderShape], dict[str, Any]]) -> Callable[[DecoderShape, float], dict[str, Any]]:
    """A mixture's config: Llama's, and what the class says beside it or otherwise."""
    return lambda shape, initializer_range: _llama_config(shape, initializer_range) | fields(shape)


FORMATS: dict[str, TransformersFormat] = {
    "GPT2LMHeadModel": TransformersFormat("gpt2", _gpt2_config, gpt2_weights),
    "Starcoder2ForCausalLM": TransformersFormat("starcoder2", _starcoder2_config, starcoder2_weights),
    "LlamaForCausalLM": TransformersFormat("llama", _llama_config, llama_weights),
    "Qwen3ForCausalLM": TransformersFormat("qwen3", _llama_config, llama_weights),
    "MixtralForCausalLM": TransformersFormat("mixtral", _with(mixtral_fields), mixtral_weights),
    "Qwen3MoeForCausalLM": TransformersFormat("qwen3_moe", _with(qwen3_moe_fields), llama_weights),
    "Dots1ForCausalLM": TransformersFormat("dots1", _with(dots1_fields), corrected_weights),
    "Glm4MoeForCausalLM": TransformersFormat("glm4_moe", _with(glm4_moe_fields), corrected_weights),
}
"""By the class that loads it: what :func:`zhgpt.model.transformers_class.export_target` names."""
