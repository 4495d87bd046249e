"""Models with a mixture of experts at tiny size, and the same weights in any layer."""

from typing import Any

import torch
from torch import Tensor, nn

from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.moe.names import canonical_parts
from zhgpt.model.transformer import CausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
    # Large enough that the experts' loads differ.
    "initializer_range": 0.3,
}


def tiny_mixture(layer: str, model_type: str = "qwen3", **settings: Any) -> ModelSection:
    """A resolved model section with 4 experts of width 24, unless ``settings`` say otherwise."""
    values = {"num_experts": 4, "moe_intermediate_size": 24, "layer": layer, **settings}
    sizes = {**SIZES, "num_key_value_heads": 4} if model_type == "gpt2" else SIZES
    return ModelSection(model_type=model_type, moe=MoeSection(**values), **sizes)  # type: ignore[arg-type]


def build(
    layer: str, model_type: str = "qwen3", *, activation_checkpointing: bool = False, **settings: Any
) -> CausalLM:
    """A model with these settings of model.moe, whose weights depend on the seed alone."""
    section = tiny_mixture(layer, model_type, **settings)
    module = CausalLM(section, "sdpa", activation_checkpointing=activation_checkpointing)
    initialise_weights(module, section, seed=3)
    return module


def batch() -> tuple[Tensor, Tensor]:
    """Tokens and labels (2, 16)."""
    tokens = torch.randint(0, 96, (2, 17), generator=torch.Generator().manual_seed(1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradients by canonical name."""
    found: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        found.update(canonical_parts(name, gradient))
    return found
