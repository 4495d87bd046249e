"""Frequencies of rotary positions, plain or scaled: the numbers that transformers' ``rope_parameters`` stand for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zhgpt.config.rope_section import RopeScalingSection
from zhgpt.model.shape import DecoderShape


def rotation(position_ids: Tensor, shape: DecoderShape) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of each position's rotation, (B, S, 1, K / 2) fp32.

    Recomputed in every forward pass instead of kept as a buffer: DeepSpeed casts a module's buffers to bf16, in which
    positions beyond 256 are no longer distinct.

    Args:
        position_ids: (B, S) int64.
        shape: of the model, with rotary positions.
    """
    angles = position_ids[:, :, None, None].float() * frequencies(position_ids, shape)
    cosine, sine = angles.cos(), angles.sin()
    factor = attention_factor(shape.rope_scaling)
    return (cosine, sine) if factor == 1.0 else (cosine * factor, sine * factor)


def attention_factor(scaling: RopeScalingSection | None) -> float:
    """What cosine and sine are multiplied by: 1 but for YaRN (arXiv 2309.00071, equation 15, on queries and keys alike)."""
    if scaling is None or scaling.rope_type != "yarn":
        return 1.0
    return 0.1 * math.log(scaling.factor) + 1.0 if scaling.attention_factor is None else scaling.attention_factor


def frequencies(position_ids: Tensor, shape: DecoderShape) -> Tensor:
    """Radians a position by which each pair of a head's entries turns, (K / 2,) fp32 on the positions' device."""
    scaling, theta = shape.rope_scaling, shape.rope_theta
    exponents = torch.arange(0, shape.head_dim, 2, device=position_ids.device).float() / shape.head_dim
    if scaling is None:
        return 1.0 / theta**exponents
    if scaling.rope_type == "linear":
        return 1.0 / theta**exponents / scaling.factor
    if scaling.rope_type == "dynamic":
        return 1.0 / _stretched_base(position_ids, shape, scaling) ** exponents
    if scaling.rope_type == "yarn":
        return _yarn(1.0 / theta**exponents, shape, scaling)
    return _llama3(1.0 / theta**exponents, shape, scaling)


def _stretched_base(position_ids: Tensor, shape: DecoderShape, scaling: RopeScalingSection) -> Tensor:
    """The base for the longest position here; that of training as long as it lies within ``max_position_embeddings``."""
    longest, factor = shape.max_position_embeddings, scaling.factor
    length = (position_ids.max() + 1).clamp(min=longest)
    stretch = factor * length / longest - (factor - 1)
    return shape.rope_theta * stretch ** (shape.head_dim / (shape.head_dim - 2))


def _yarn(plain_K: Tensor, shape: DecoderShape, scaling: RopeScalingSection) -> Tensor:
    """Fast pairs as they are, slow ones divided by the factor, a ramp over the pairs between (YaRN, section 3.2)."""
    original = scaling.original_max_position_embeddings or shape.max_position_embeddings

    def entry_that_turns(times: float) -> float:
        return shape.head_dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(shape.rope_theta))

    first = max(math.floor(entry_that_turns(scaling.beta_fast)), 0)
    last = min(math.ceil(entry_that_turns(scaling.beta_slow)), shape.head_dim - 1)
    pairs = torch.arange(shape.head_dim // 2, device=plain_K.device).float()
    slow_K = ((pairs - first) / (last - first if last != first else 0.001)).clamp(0, 1)
    return plain_K / scaling.factor * slow_K + plain_K * (1 - slow_K)


def _llama3(plain_K: Tensor, shape: DecoderShape, scaling: RopeScalingSection) -> Tensor:
    """By the wavelengths that fit into the original length: all of many, a share of few (Llama 3.1's ``apply_scaling``)."""
    original = scaling.original_max_position_embeddings or shape.max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    fitting_K = original * plain_K / (2 * math.pi)
    kept_K = ((fitting_K - low) / (high - low)).clamp(0, 1)
    return (1 - kept_K) * plain_K / scaling.factor + kept_K * plain_K
