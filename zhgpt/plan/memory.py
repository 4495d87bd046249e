"""Memory of one rank at the fullest moment of a step: its states, activations, logits and buffers together.

Every row was compared with what real ranks take (docs/plan.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import count_parameters, decoder_shape, hidden_matrices
from zhgpt.plan.activations import Activations, activations
from zhgpt.plan.layout import Layout
from zhgpt.plan.states import ZERO_BUCKET, StateBytes, split_parameters, state_bytes

MUON_BATCH_VALUES = 2**24
"""Most values that Muon orthogonalises in one product (``LARGEST_BATCH`` of :mod:`zhgpt.train.matrix_exchange`)."""
MAX_LIVE = 1_000_000_000
"""DeepSpeed's default of stage3_max_live_parameters."""
CUDA_CONTEXT_BYTES = 0.8 * 2**30
"""What a process takes of a GPU before its first tensor, with cuBLAS and NCCL: an assumption, not measured here."""
FRAGMENTATION = 0.06
"""Of everything allocated, what the caching allocator holds beside it: an assumption, not measured here."""


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
