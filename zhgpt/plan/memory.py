"""Memory of one rank: weights, gradients, optimizer, activations, logits and buffers, as DeepSpeed lays them out.

Sources: deepspeed/runtime/bf16_optimizer.py (bf16 at stage 1), zero/stage_1_and_2.py, zero/stage3.py and engine.py, 0.19.8;
every row below was compared with what real ranks take (docs/plan.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zhgpt.config.schema import ModelSection
from zhgpt.config.zero_rules import offload_device, zero_stage
from zhgpt.model.shape import count_parameters, decoder_shape, hidden_matrices
from zhgpt.plan.activations import Activations, Kernels, activations

MASTER_BYTES, ADAM_BYTES, MUON_BYTES, GRADIENT_BYTES = 4, 8, 4, 4
"""Of a parameter in fp32: master weight, Adam's two moments, Muon's one, gradient."""
MUON_BATCH_VALUES = 2**24
"""Most values that Muon orthogonalises in one product (``LARGEST_BATCH`` of :mod:`zhgpt.train.matrix_exchange`)."""
STAGE0_BUCKET = 500_000_000
"""Elements that DeepSpeed's plain all-reduce lays side by side at once (engine.py, ``buffered_allreduce_fallback``)."""
ZERO_BUCKET, PERSISTENCE_THRESHOLD, MAX_LIVE = 500_000_000, 100_000, 1_000_000_000
"""DeepSpeed's defaults of reduce_bucket_size, stage3_param_persistence_threshold and stage3_max_live_parameters."""
CUDA_CONTEXT_BYTES = 0.8 * 2**30
"""What a process takes of a GPU before its first tensor, with cuBLAS and NCCL: an assumption, not measured here."""
FRAGMENTATION = 0.06
"""Of everything allocated, what the caching allocator holds beside it: an assumption, not measured here."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one model lies on the ranks.

    Attributes:
        stage: of ZeRO.
        precision: ``train.precision``.
        world_size: ranks.
        ep_size: ranks that share one set of experts.
        accumulation: micro-steps a step.
        recomputed_layers: indices of the layers that activation checkpointing computes again.
        zero: the JSON's ``zero_optimization``.
        optimizer_offloaded: whether master weights and moments lie in the host.
        parameters_offloaded: whether the weights do.
        kernels: whose activations are counted.
        optimizer: ``optim.name``.
        newton_schulz_steps: with which Muon orthogonalises.
    """

    stage: int
    precision: str
    world_size: int
    ep_size: int = 1
    accumulation: int = 1
    recomputed_layers: tuple[int, ...] = ()
    zero: Mapping[str, Any] | None = None
    optimizer_offloaded: bool = False
    parameters_offloaded: bool = False
    kernels: Kernels = "cuda"
    optimizer: str = "adamw"
    newton_schulz_steps: int = 5

    @property
    def autocast(self) -> bool:
        """bf16 without ZeRO runs as fp32 weights under autocast (:mod:`zhgpt.config.deepspeed_json`)."""
        return self.precision == "bf16" and self.stage == 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight as the model holds it."""
        return 4 if self.precision == "fp32" or self.autocast else 2

    @property
    def bf16_optimizer(self) -> bool:
        """Whether DeepSpeed takes its BF16_Optimizer: bf16 at stage 1 with fp32 accumulation on the device."""
        return self.precision == "bf16" and self.stage == 1 and not self.optimizer_offloaded

    @property
    def reduces_in_backward(self) -> bool:
        """Whether ZeRO 1 or 2 shares gradients out while the backward pass goes on, instead of after it, or after the last."""
        beside = self.accumulation == 1 and bool(self.key("overlap_comm", False))
        return self.stage == 2 or (self.stage == 1 and not self.bf16_optimizer and beside)

    def key(self, name: str, default: Any) -> Any:
        """A key of the JSON's ``zero_optimization``."""
        return (self.zero or {}).get(name, default)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of the fullest rank at its fullest moment.

    Attributes:
        parts: what lies there then, by name.
        moment: "loss" (the end of the forward pass), "head" (the output table's gradient, first in the backward pass),
            "recompute" (a checkpointed layer computed again, next), "backward" (the last layer; where gradients are
            shared out meanwhile, the first time), "reduce" (gradients between ranks) or "step".
        host_bytes: what is offloaded to the host, a rank.
    """

    parts: dict[str, float]
    moment: str
    host_bytes: float = 0.0

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self.parts.values())


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


def layout_of(
    ds_json: Mapping[str, Any],
    *,
    precision: str,
    world_size: int,
    ep_size: int = 1,
    accumulation: int = 1,
    recomputed_layers: tuple[int, ...] = (),
    kernels: Kernels = "cuda",
    optimizer: str = "adamw",
    newton_schulz_steps: int = 5,
) -> Layout:
    """The layout that a checked DeepSpeed JSON asks for."""
    return Layout(
        stage=zero_stage(ds_json),
        precision=precision,
        world_size=world_size,
        ep_size=ep_size,
        accumulation=accumulation,
        recomputed_layers=recomputed_layers,
        zero=ds_json.get("zero_optimization", {}),
        optimizer_offloaded=offload_device(ds_json, "offload_optimizer") != "none",
        parameters_offloaded=offload_device(ds_json, "offload_param") != "none",
        kernels=kernels,
        optimizer=optimizer,
        newton_schulz_steps=newton_schulz_steps,
    )


def plan_memory(
    model: ModelSection, layout: Layout, micro_batch_size: int, sequence_length: int, *, reserve: bool = True
) -> MemoryPlan:
    """Memory of the fullest moment of a step.

    Args:
        model: what ``resolve_model`` returns.
        layout: of the ranks.
        micro_batch_size: sequences.
        sequence_length: tokens of each.
        reserve: whether CUDA's own memory and fragmentation are added (not for ranks on the CPU).
    """
    dense, experts = split_parameters(model, layout.ep_size)
    tables = count_parameters(model).embedding
    dense_state = state_bytes(dense, layout, layout.world_size, matrices=dense - tables)
    expert_state = state_bytes(experts, layout, max(1, layout.world_size // layout.ep_size), matrices=experts)
    held = activations(
        model,
        micro_batch_size,
        sequence_length,
        precision=layout.precision,
        autocast=layout.autocast,
        recomputed_layers=layout.recomputed_layers,
        kernels=layout.kernels,
    )
    moments = {
        moment: _parts_at(moment, model, layout, dense_state, expert_state, held)
        for moment in ("loss", "head", "recompute", "backward", "reduce", "step")
    }
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts = {name: size for name, size in moments[moment].items() if size > 0}
    if reserve:
        parts["CUDA context"] = CUDA_CONTEXT_BYTES
        parts["fragmentation"] = FRAGMENTATION * sum(parts.values())
    return MemoryPlan(parts, moment, dense_state.host + expert_state.host)


def split_parameters(model: ModelSection, ep_size: int) -> tuple[int, int]:
    """Parameters that every rank has, and those of the routed experts of one rank."""
    shape = decoder_shape(model)
    matrices = 3 if shape.gated_feed_forward else 2
    experts = sum(shape.experts.values())
    size = experts * matrices * shape.hidden_size * shape.expert_size if experts else 0
    return count_parameters(model).total - size, size // ep_size


def muon_batch_bytes(model: ModelSection, layout: Layout) -> float:
    """What Muon takes for a moment to orthogonalise the largest batch of equal matrices; 0 for AdamW.

    Of each value: the matrix, and then either its quotient by the norm in fp32 (rounded to bf16 after that, where a CPU makes an
    fp32 copy before), or the iterate before and after a step and two products as narrow as the matrix.
    """
    if layout.optimizer != "muon":
        return 0.0
    shape = decoder_shape(model)
    computed = 2 if layout.precision == "bf16" else 4
    quotient = 10 if computed == 2 and layout.kernels == "cpu" else 8
    most_experts = max(shape.experts.values(), default=0) // layout.ep_size
    of_experts = (
        {(shape.expert_size, shape.hidden_size), (shape.hidden_size, shape.expert_size)} if most_experts else ()
    )
    sizes = [0.0]
    for (rows, columns), count in hidden_matrices(model).items():
        size, narrow_share = rows * columns, min(rows, columns) / max(rows, columns)
        alone = (
            most_experts if (rows, columns) in of_experts else 1
        )  # a parameter, which is stepped by itself without ZeRO
        owned = alone if layout.stage == 0 else -(-count // layout.world_size)
        batch = size * min(owned, max(1, MUON_BATCH_VALUES // size))
        sizes.append(batch * max(quotient, (3 + 2 * narrow_share) * computed))
    return max(sizes)


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


def gathered_bytes(model: ModelSection, layout: Layout) -> float:
    """Whole weights that ZeRO-3 holds at once: up to stage3_max_live_parameters of them, and the small ones for good."""
    if layout.stage != 3 or layout.world_size == 1:
        return 0.0
    total = count_parameters(model).total
    return float(min(total, layout.key("stage3_max_live_parameters", MAX_LIVE)) * layout.weight_bytes)


def _parts_at(
    moment: str, model: ModelSection, layout: Layout, dense: StateBytes, experts: StateBytes, held: Activations
) -> dict[str, float]:
    """What lies on the device at one moment of the last micro-step."""
    accumulates, early = layout.accumulation > 1, moment in ("loss", "head", "recompute")
    states = {"": dense, "experts": experts}
    parts: dict[str, float] = {
        "parameters": dense.weights,
        "gradients": 0.0,
        "optimizer": dense.optimizer,
        "activations": 0.0,
        "logits": 0.0,
        "buffers": 0.0,
        "experts": experts.weights + experts.optimizer,
    }
    for name, state in states.items():
        if early:
            during = state.held_gradients + (state.accumulated if accumulates else 0.0)
        else:
            during = state.held_gradients + (state.stepped if moment == "step" else state.late_gradients)
        if layout.stage == 2 and layout.precision == "fp32" and accumulates and moment in ("backward", "reduce"):
            during += state.late_gradients  # of this micro-step, not yet in the sum
        parts["experts" if name else "gradients"] += during
        if moment == "reduce" or layout.stage == 3 or (layout.reduces_in_backward and moment == "backward"):
            parts["buffers"] += state.reduction  # stage 3 makes its bucket at the start
        if moment == "step":
            parts["buffers"] += state.update
    if moment == "step":
        parts["buffers"] += muon_batch_bytes(model, layout)
    if moment == "loss":
        parts["activations"] = held.kept
        parts["logits"] = held.logits + held.head_gradient
    elif moment == "head":
        parts["activations"] = held.kept
        parts["logits"] = held.head_gradient + held.scaled_gradient
    elif moment == "recompute":
        parts["activations"] = held.kept + held.layer
        parts["logits"] = held.head_gradient
    elif moment == "backward":
        parts["activations"] = held.layer + _kept_when_gradients_begin(model, layout) * held.kept
        if decoder_shape(model).tie_word_embeddings:
            parts["logits"] = held.scaled_gradient
    if moment != "step":
        parts["buffers"] += gathered_bytes(model, layout)
        if layout.autocast and moment != "reduce":
            parts["buffers"] += 2.0 * count_parameters(model).non_embedding
    return parts


def _kept_when_gradients_begin(model: ModelSection, layout: Layout) -> float:
    """Which share of the activations is still there when ZeRO makes a rank's vector of gradients, whole.

    It does so when the first bucket is full, on the rank that holds the last layers. 0 where gradients are shared out later, or
    their vector is always there.
    """
    if not layout.reduces_in_backward:
        return 0.0
    shape = decoder_shape(model)
    layers = sum(split_parameters(model, layout.ep_size)) - count_parameters(model).embedding
    head = 0 if shape.tie_word_embeddings else shape.padded_vocab_size * shape.hidden_size  # its gradient is the first
    bucket = layout.key("reduce_bucket_size", ZERO_BUCKET)
    return 1 - min(1.0, max(0, bucket - head) / layers)
