"""Weights, gradients and optimizer of one rank, and the buckets between ranks, as DeepSpeed lays them out.

Sources: deepspeed/runtime/bf16_optimizer.py (bf16 at stage 1), zero/stage_1_and_2.py, zero/stage3.py and engine.py, 0.19.8;
what follows from them was compared with what real ranks take (docs/plan.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import count_parameters, decoder_shape
from zhgpt.plan.layout import Layout

MASTER_BYTES, ADAM_BYTES, MUON_BYTES, GRADIENT_BYTES = 4, 8, 4, 4
"""Of a parameter in fp32: master weight, Adam's two moments, Muon's one, gradient."""
STAGE0_BUCKET = 500_000_000
"""Elements that DeepSpeed's plain all-reduce lays side by side at once (engine.py, ``buffered_allreduce_fallback``)."""
ZERO_BUCKET = 500_000_000
"""DeepSpeed's default of reduce_bucket_size."""


@dataclass(frozen=True, slots=True)
class StateBytes:
    """Bytes that stay from step to step, and those that come with gradients.

    Attributes:
        weights: of the model, as this rank holds them.
        optimizer: master weights and moments.
        held_gradients: there even between steps.
        late_gradients: there from the backward pass to the step.
        accumulated: of those, what lies there during the forward pass of a later micro-step.
        stepped: of those, what is left while the optimizer steps.
        reduction: what reducing them takes for a moment.
        update: what the step takes for a moment.
        host: offloaded.
    """

    weights: float
    optimizer: float
    held_gradients: float
    late_gradients: float
    accumulated: float
    stepped: float
    reduction: float
    update: float
    host: float = 0.0


def split_parameters(model: ModelSection, ep_size: int) -> tuple[int, int]:
    """Parameters that every rank has, and those of the routed experts of one rank."""
    shape = decoder_shape(model)
    matrices = 3 if shape.gated_feed_forward else 2
    experts = sum(shape.experts.values())
    size = experts * matrices * shape.hidden_size * shape.expert_size if experts else 0
    return count_parameters(model).total - size, size // ep_size


def state_bytes(parameters: int, layout: Layout, ranks: int, *, matrices: int = 0) -> StateBytes:
    """Bytes of weights, gradients and optimizer for parameters that are split over ``ranks``.

    ZeRO pads what it splits to whole elements a rank, which is left out: less than ``ranks`` elements a group.

    Args:
        parameters: how many.
        layout: of the ranks.
        ranks: that they are split over.
        matrices: how many of them Muon steps where it is the optimizer; norms and routers are counted among them.
    """
    if parameters == 0:
        return StateBytes(0, 0, 0, 0, 0, 0, 0, 0)
    state = _state_under_adam(parameters, layout, ranks)
    if layout.optimizer == "muon":
        saved = (ADAM_BYTES - MUON_BYTES) * matrices / (1 if layout.stage == 0 else ranks)
        state = replace(state, optimizer=state.optimizer - saved)
    return _offloaded(state, layout, GRADIENT_BYTES * parameters / ranks)


def _state_under_adam(parameters: int, layout: Layout, ranks: int) -> StateBytes:
    """What AdamW needs, nothing offloaded."""
    split = parameters / ranks
    weights = float(layout.weight_bytes * parameters)
    bucket = float(layout.key("reduce_bucket_size", ZERO_BUCKET))
    if layout.stage == 0:
        reduction = 0.0 if layout.world_size == 1 else min(parameters, STAGE0_BUCKET) * GRADIENT_BYTES
        gradients = float(GRADIENT_BYTES * parameters)
        return StateBytes(weights, ADAM_BYTES * parameters, 0, gradients, gradients, gradients, reduction, 0)
    optimizer = (MASTER_BYTES + ADAM_BYTES) * split
    if layout.bf16_optimizer:
        # fp32 gradients of everything stay, a bf16 one goes into its sum as it is made; the reduction lays a bucket side by side
        # and casts it to bf16.
        reduction = 0.0 if layout.world_size == 1 else (GRADIENT_BYTES + 2) * min(parameters, STAGE0_BUCKET)
        gradients = float(GRADIENT_BYTES * parameters)
        return StateBytes(weights, optimizer, gradients, 0, 0, 0, reduction, 0)
    gradients = GRADIENT_BYTES * split
    # Stage 1 sums in fp32 before it reduces, the others after it.
    value_bytes = GRADIENT_BYTES if layout.stage == 1 else layout.weight_bytes
    buckets = min(bucket, parameters) * value_bytes * (2 if layout.key("overlap_comm", layout.stage == 3) else 1)
    if layout.stage == 3:
        weights = layout.weight_bytes * split
        return StateBytes(weights, optimizer, gradients, 0, 0, 0, buckets, gradients)
    # In half precision gradients are summed in the flat vector that is stepped. In fp32 they are copied into it, and stay beside
    # it: they are views of one tensor with those of other groups.
    update = gradients if layout.precision == "fp32" else 0
    if layout.reduces_in_backward:
        return StateBytes(weights, optimizer, 0, gradients, gradients, gradients, buckets, update)
    # Reduced after the backward pass, and with accumulation after the last one. A CPU has only what is filled of the rank's own
    # vector, and as much of the others' is gone by then.
    whole = float(GRADIENT_BYTES * parameters)
    own = gradients if layout.kernels == "cuda" else 0
    return StateBytes(weights, optimizer, 0, whole, whole, gradients, buckets + own, update)


def _offloaded(state: StateBytes, layout: Layout, gradients: float) -> StateBytes:
    """The same with what the JSON moves to the host.

    Args:
        state: with nothing offloaded.
        layout: of the ranks.
        gradients: fp32, of a rank's part.
    """
    if not layout.optimizer_offloaded:
        return state
    weights = 0.0 if layout.parameters_offloaded else state.weights
    host = state.optimizer + gradients + state.weights - weights
    moved = replace(state, weights=weights, optimizer=0.0, held_gradients=0.0, update=0.0, host=host)
    if layout.stage < 3 and layout.precision != "fp32":
        return moved  # summed on the device, and copied to the host at the end
    return replace(moved, late_gradients=0.0, accumulated=0.0, stepped=0.0)
