"""The mixture layers by name; what needs DeepSpeed is imported when it is wanted."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from zhgpt.config.moe_section import MoeSection
from zhgpt.model.moe.dropless import DroplessMixture
from zhgpt.model.shape import DecoderShape

MakeFeedForward = Callable[[int], nn.Module]
"""Width -> a feed-forward layer without biases."""


def make_mixture(shape: DecoderShape, layer: int, ep_size: int, feed_forward: MakeFeedForward) -> nn.Module:
    """Return the mixture of one layer as the model's section asks for it.

    Its forward takes (x (B, S, D), tape) and returns the output (B, S, D) and, in training, the router's losses.

    Args:
        shape: of the model, with experts in this layer.
        layer: index, from 0.
        ep_size: ranks that share the experts.
        feed_forward: makes an expert of a width.
    """
    assert shape.moe is not None
    width = shape.moe.n_shared_experts * shape.expert_size
    shared = feed_forward(width) if width else None
    return MIXTURE_LAYERS[shape.moe.layer](shape, layer, ep_size, shared, feed_forward)


def _dropless(
    shape: DecoderShape, layer: int, ep_size: int, shared: nn.Module | None, feed_forward: MakeFeedForward
) -> nn.Module:
    del feed_forward
    if ep_size == 1:
        return DroplessMixture(shape, layer, shared)
    from zhgpt.model.moe.expert_parallel import ExpertParallelMixture

    return ExpertParallelMixture(shape, layer, shared, ep_size=ep_size)


def _deepspeed(
    shape: DecoderShape, layer: int, ep_size: int, shared: nn.Module | None, feed_forward: MakeFeedForward
) -> nn.Module:
    from zhgpt.model.moe.deepspeed_layer import DeepSpeedMixture

    return DeepSpeedMixture(shape, layer, ep_size, shared, feed_forward(shape.expert_size))


def _reference(
    shape: DecoderShape, layer: int, ep_size: int, shared: nn.Module | None, feed_forward: MakeFeedForward
) -> nn.Module:
    from zhgpt.model.moe.reference import ReferenceMixture

    assert ep_size == 1, "the reference has all experts on one rank"
    experts = nn.ModuleList(feed_forward(shape.expert_size) for _ in range(shape.experts[layer]))
    return ReferenceMixture(shape, layer, experts, shared)


MIXTURE_LAYERS: dict[str, Callable[[DecoderShape, int, int, nn.Module | None, MakeFeedForward], nn.Module]] = {
    "dropless": _dropless,
    "deepspeed": _deepspeed,
    "reference": _reference,
}


def draws_random_numbers(moe: MoeSection | None) -> bool:
    """Whether the layer draws from torch's generator in training."""
    if moe is None or moe.layer != "deepspeed":
        return False
    second = moe.num_experts_per_tok == 2 and moe.top2_2nd_expert_sampling
    return second or moe.noisy_gate_policy is not None or (moe.num_experts_per_tok == 1 and moe.use_rts)
