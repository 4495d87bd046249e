"""First weights: GPT-2's scheme, each parameter from its own generator."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from zhgpt.config.schema import ModelSection
from zhgpt.model.moe.names import canonical_parts
from zhgpt.model.shape import DecoderShape, decoder_shape

RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight")


@torch.no_grad()
def initialise_weights(
    module: nn.Module, model: ModelSection, seed: int, *, ep_rank: int = 0, ep_size: int = 1
) -> None:
    """Set every parameter of a whole (not yet partitioned) ``CausalLM``.

    Matrices and tables: normal(0, ``initializer_range``), the two projections that write into the residual stream of
    each layer scaled by 1 / sqrt(2 * layers) (GPT-2 paper, section 2.3); norm weights 1, biases 0, padded vocabulary
    rows 0. Each parameter has a generator seeded by (seed, name) and draws on the CPU in fp32, so its values do not
    depend on the world size, the device, the dtype, the padding or the order of the parameters; those of an expert, which
    is known by its global number, not on how the experts are stored and shared out either.

    Args:
        module: its memory is overwritten.
        model: the resolved section.
        seed: ``run.seed``.
        ep_rank: this rank's place among those that share the experts.
        ep_size: how many they are.
    """
    shape = decoder_shape(model)
    local_experts = {f"model.layers.{layer}.mlp": count // ep_size for layer, count in shape.experts.items()}
    for running_name, parameter in module.named_parameters():
        layer = running_name.partition(".mlp.")[0] + ".mlp"
        for name, values in canonical_parts(running_name, parameter, ep_rank, local_experts.get(layer, 0)):
            values.copy_(_first_values(name, values, shape, model.initializer_range, seed))


def _first_values(name: str, parameter: Tensor, shape: DecoderShape, deviation: float, seed: int) -> Tensor:
    if name.endswith("bias"):
        return torch.zeros(parameter.shape)
    if "norm" in name:
        return torch.ones(parameter.shape)
    if name.endswith(RESIDUAL_PROJECTIONS):
        deviation = deviation / math.sqrt(2 * shape.num_hidden_layers)
    rows = shape.vocab_size if name.endswith(("embed_tokens.weight", "lm_head.weight")) else parameter.shape[0]
    values = torch.zeros(parameter.shape)
    values[:rows].normal_(0.0, deviation, generator=parameter_generator(seed, name))
    return values


def parameter_generator(seed: int, name: str) -> torch.Generator:
    """Return the CPU generator of one parameter."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
