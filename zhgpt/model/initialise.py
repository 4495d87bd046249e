"""First weights: GPT-2's scheme and its variants, each parameter from its own generator."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from zhgpt.config.schema import ModelSection
from zhgpt.model.moe.names import canonical_parts
from zhgpt.model.shape import decoder_shape
from zhgpt.model.width_scaling import width_multipliers

RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight")


@torch.no_grad()
def initialise_weights(
    module: nn.Module, model: ModelSection, seed: int, *, ep_rank: int = 0, ep_size: int = 1
) -> None:
    """Set every parameter of a whole (not yet partitioned) ``CausalLM``.

    Matrices and tables: normal(0, ``initializer_range``), the two projections that write into the residual stream of
    each layer as ``residual_init`` says, matrices narrower with the width (:mod:`zhgpt.model.width_scaling`); norm weights 1,
    biases 0, padded vocabulary rows 0. Each parameter has a generator seeded by (seed, name) and draws on the CPU in fp32, so
    its values do not depend on the world size, the device, the dtype, the padding or the order of the parameters; those of
    an expert, which is known by its global number, not on how the experts are stored and shared out either.

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
            values.copy_(_first_values(name, values, model, seed))


def _first_values(name: str, parameter: Tensor, model: ModelSection, seed: int) -> Tensor:
    values = torch.zeros(parameter.shape)
    if name.endswith("bias"):
        return values
    if "norm" in name:
        return torch.ones(parameter.shape)
    shape = decoder_shape(model)
    deviation = model.initializer_range
    deviation *= width_multipliers(name, parameter.dim(), shape.width_ratio).initial_deviation
    if name.endswith(RESIDUAL_PROJECTIONS):
        deviation *= _residual_factor(name, model)
    if deviation == 0:
        return values
    rows = shape.vocab_size if name.endswith(("embed_tokens.weight", "lm_head.weight")) else parameter.shape[0]
    values[:rows].normal_(0.0, deviation, generator=parameter_generator(seed, name))
    return values


def _residual_factor(name: str, model: ModelSection) -> float:
    """What the first weights of a projection into the residual stream are multiplied by.

    ``scaled``: GPT-2 paper, section 2.3. ``by_depth``: its variance over 2 n in layer n, as the stream then already holds
    2 n terms (B. Zhang and others 2019, arXiv 1908.11365). ``zero``: T. Bachlechner and others 2020 (arXiv 2003.04887) with
    the matrix in the place of their gate.
    """
    if model.residual_init == "by_depth":
        layer = int(name.split(".layers.")[1].split(".")[0])
        return 1 / math.sqrt(2 * (layer + 1))
    return {"scaled": 1 / math.sqrt(2 * model.num_hidden_layers), "plain": 1.0, "zero": 0.0}[model.residual_init]


def parameter_generator(seed: int, name: str) -> torch.Generator:
    """Return the CPU generator of one parameter."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
