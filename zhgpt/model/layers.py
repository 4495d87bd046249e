"""The layers of the decoder: norms, rotary positions, attention and feed-forward blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhgpt.model.attention import AttentionBackend
from zhgpt.model.fused_kernels import FUSED_KERNELS
from zhgpt.model.moe.make import make_mixture
from zhgpt.model.moe.routing import RoutingTape
from zhgpt.model.packing import Packing
from zhgpt.model.shape import DecoderShape


@dataclass(frozen=True)
class LayerInputs:
    """What every layer of one forward pass shares.

    Attributes:
        packing: what attention may see.
        cosine, sine: (B or 1, S, 1, K / 2) fp32 rotation of each position; None with learned positions.
    """

    packing: Packing
    cosine: Tensor | None
    sine: Tensor | None


class Linear(nn.Linear):
    """``nn.Linear`` that leaves its memory uninitialised: ``initialise_weights`` or a state dict sets it."""

    def reset_parameters(self) -> None:
        """Do nothing (torch would draw from the global generator, and at 1.3B parameters take its time)."""


class Table(nn.Embedding):
    """``nn.Embedding`` that leaves its memory uninitialised: ``initialise_weights`` or a state dict sets it."""

    def reset_parameters(self) -> None:
        """Do nothing."""


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, computed in fp32, given back in the input's dtype."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.epsilon = epsilon
        self.kernels = FUSED_KERNELS["torch"]

    def forward(self, x: Tensor) -> Tensor:
        """Return x / rms(x) * weight; any shape whose last axis has ``size`` entries."""
        weight = self.weight.to(x.dtype)
        return self.kernels.rms_norm(x, weight, self.epsilon).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` that leaves its memory uninitialised and gives back the input's dtype under autocast too."""

    def reset_parameters(self) -> None:
        """Do nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x in x's dtype."""
        return super().forward(x).to(x.dtype)


def make_norm(shape: DecoderShape) -> nn.Module:
    """The norm over the hidden size that this model type uses."""
    if shape.model_type == "gpt2":
        return LayerNorm(shape.hidden_size, eps=shape.norm_epsilon)
    return RMSNorm(shape.hidden_size, shape.norm_epsilon)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate (B, S, H, K) by position: entry i of a head pairs with entry i + K / 2 (the layout of transformers)."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention inside documents, with grouped key/value heads."""

    def __init__(self, shape: DecoderShape, backend: AttentionBackend) -> None:
        super().__init__()
        query_size = shape.num_attention_heads * shape.head_dim
        key_value_size = shape.num_key_value_heads * shape.head_dim
        self.head_dim = shape.head_dim
        self.backend = backend
        self.q_proj = Linear(shape.hidden_size, query_size, bias=shape.biases)
        self.k_proj = Linear(shape.hidden_size, key_value_size, bias=shape.biases)
        self.v_proj = Linear(shape.hidden_size, key_value_size, bias=shape.biases)
        self.o_proj = Linear(query_size, shape.hidden_size, bias=shape.biases)
        self.q_norm = RMSNorm(shape.head_dim, shape.norm_epsilon) if shape.query_key_norm else None
        self.k_norm = RMSNorm(shape.head_dim, shape.norm_epsilon) if shape.query_key_norm else None

    def forward(self, x_BSD: Tensor, inputs: LayerInputs) -> Tensor:
        """Mix (B, S, D) over the positions each one may see."""
        query_BSHK = self.q_proj(x_BSD).unflatten(-1, (-1, self.head_dim))
        key_BSGK = self.k_proj(x_BSD).unflatten(-1, (-1, self.head_dim))
        value_BSGK = self.v_proj(x_BSD).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            query_BSHK, key_BSGK = self.q_norm(query_BSHK), self.k_norm(key_BSGK)
        if inputs.cosine is not None and inputs.sine is not None:
            query_BSHK = rotate(query_BSHK, inputs.cosine, inputs.sine)
            key_BSGK = rotate(key_BSGK, inputs.cosine, inputs.sine)
        mixed_BSHK = self.backend.attend(query_BSHK, key_BSGK, value_BSGK, inputs.packing)
        return cast(Tensor, self.o_proj(mixed_BSHK.flatten(2)))


class FeedForward(nn.Module):
    """GPT-2's two matrices with GELU in its tanh form (transformers' ``gelu_new``)."""

    def __init__(self, hidden_size: int, width: int, *, bias: bool) -> None:
        super().__init__()
        self.up_proj = Linear(hidden_size, width, bias=bias)
        self.down_proj = Linear(width, hidden_size, bias=bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Return (B, S, D)."""
        return cast(Tensor, self.down_proj(functional.gelu(self.up_proj(x_BSD), approximate="tanh")))


class GatedFeedForward(nn.Module):
    """SwiGLU: silu(gate) * up, then down (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, width: int, *, bias: bool) -> None:
        super().__init__()
        self.kernels = FUSED_KERNELS["torch"]
        self.gate_proj = Linear(hidden_size, width, bias=bias)
        self.up_proj = Linear(hidden_size, width, bias=bias)
        self.down_proj = Linear(width, hidden_size, bias=bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Return (B, S, D)."""
        return cast(Tensor, self.down_proj(self.kernels.silu_mul(self.gate_proj(x_BSD), self.up_proj(x_BSD))))


class DecoderLayer(nn.Module):
    """Attention, then feed-forward or a mixture of experts, each behind a norm and added to the residual stream."""

    def __init__(self, shape: DecoderShape, backend: AttentionBackend, layer: int, ep_size: int) -> None:
        super().__init__()
        self.is_mixture = layer in shape.experts
        self.input_layernorm = make_norm(shape)
        self.self_attn = Attention(shape, backend)
        self.post_attention_layernorm = make_norm(shape)
        self.mlp = make_mlp(shape, layer, ep_size)

    def forward(
        self, x_BSD: Tensor, inputs: LayerInputs, tape: RoutingTape | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream (B, S, D) after this layer, and of a mixture in training its router's losses."""
        x_BSD = x_BSD + self.self_attn(self.input_layernorm(x_BSD), inputs)
        normed_BSD = self.post_attention_layernorm(x_BSD)
        if not self.is_mixture:
            return x_BSD + self.mlp(normed_BSD), None
        mixed_BSD, router_loss = self.mlp(normed_BSD, tape)
        return x_BSD + mixed_BSD, router_loss


def make_mlp(shape: DecoderShape, layer: int, ep_size: int) -> nn.Module:
    """The feed-forward layer, or the mixture, of the layer with this index; experts have no biases."""
    kind = GatedFeedForward if shape.gated_feed_forward else FeedForward
    if layer in shape.experts:
        return make_mixture(shape, layer, ep_size, lambda width: kind(shape.hidden_size, width, bias=False))
    return kind(shape.hidden_size, shape.intermediate_size, bias=shape.biases)
