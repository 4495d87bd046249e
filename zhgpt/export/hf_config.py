"""The config of the transformers class that holds each model type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zhgpt.export.hf_weights import gpt2_weights, llama_weights
from zhgpt.model.shape import DecoderShape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class TransformersFormat:
    """How one model type is written for transformers.

    Attributes:
        architecture: the class that loads it.
        config: shape and initializer_range -> keywords of the class's config.
        weights: our state dict -> the class's.
    """

    architecture: str
    config: Callable[[DecoderShape, float], dict[str, Any]]
    weights: Callable[[Mapping[str, Tensor], DecoderShape], dict[str, Tensor]]


def transformers_config(
    shape: DecoderShape, initializer_range: float, dtype: str, end_of_text_id: int, padding_id: int
) -> PreTrainedConfig:
    """Return the config that ``AutoModelForCausalLM`` reads; documents start and end with the end-of-text token."""
    from transformers import AutoConfig

    form = FORMATS[shape.model_type]
    return AutoConfig.for_model(
        shape.model_type,
        **form.config(shape, initializer_range),
        architectures=[form.architecture],
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
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "attention_bias": False,
    }


FORMATS: dict[str, TransformersFormat] = {
    "gpt2": TransformersFormat("GPT2LMHeadModel", _gpt2_config, gpt2_weights),
    "llama": TransformersFormat("LlamaForCausalLM", _llama_config, llama_weights),
    "qwen3": TransformersFormat("Qwen3ForCausalLM", _llama_config, llama_weights),
}
