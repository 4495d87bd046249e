"""How long one optimizer step takes: a roofline of a few terms, with what communication hides behind.

The terms of a micro-step are added, because a GPU's kernels run one after the other: matrix products at a share of what
the device's best product reaches, everything else at a multiple of the bytes that must move, and a fixed time a layer. Then
the optimizer's bytes once a step, and what of the communication does not hide behind the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import DecoderShape, decoder_shape, flops_per_token, hidden_matrices
from zhgpt.plan.activations import activations
from zhgpt.plan.gpus import ASSUMED_MATMUL_SHARE, Cluster, Gpu
from zhgpt.plan.layout import Layout
from zhgpt.plan.states import split_parameters

UPDATE_BYTES = 32
"""A parameter's way through Adam: read gradient, master, two moments; write master, moments, 16-bit weight. (Muon has one
moment: a little less.)"""
HOST_MEMORY_BANDWIDTH, PCIE_BANDWIDTH = 100e9, 20e9
"""Of a host, all ranks together, and of one GPU's way to it, bytes a second: assumptions, not measured here."""
LOGIT_BYTES = 26
"""A logit's way through the chunked loss: written in 16 bits, read and written in fp32 for the cast and the softmax, read
for the slope, and the slope read by two products."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What was fitted to published throughputs (:mod:`zhgpt.plan.calibration`); six numbers.

    Attributes:
        matmul: share of the device's best matrix product that a layer's products reach at great width.
        narrow: width at which they reach half of that.
        traffic: bytes moved for each byte that the backward pass needs kept.
        launch_seconds: a layer and micro-step, whatever its size: launches and waiting between kernels.
        overlap: share of the window beside it in which communication makes progress unseen.
        link: share of a link's data-sheet bandwidth that collectives reach.
    """

    matmul: float
    narrow: float
    traffic: float
    launch_seconds: float
    overlap: float
    link: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one optimizer step on the slowest rank, by what takes them."""

    matmul: float
    traffic: float
    launch: float
    update: float
    exposed_communication: float
    hidden_communication: float

    @property
    def total(self) -> float:
        """Seconds; what is hidden does not count."""
        return self.matmul + self.traffic + self.launch + self.update + self.exposed_communication


def predict_step(
    model: ModelSection,
    layout: Layout,
    cluster: Cluster,
    micro_batch_size: int,
    sequence_length: int,
    constants: Constants,
) -> StepTime:
    """Seconds of a step of ``layout.accumulation`` micro-steps.

    Args:
        model: what ``resolve_model`` returns.
        layout: of the ranks.
        cluster: what they run on.
        micro_batch_size: sequences.
        sequence_length: tokens of each.
        constants: fitted.
    """
    shape = decoder_shape(model)
    tokens = micro_batch_size * sequence_length
    rate = _product_rate(cluster.gpu, layout.precision, shape.hidden_size, constants)
    again = len(layout.recomputed_layers) / shape.num_hidden_layers / 3
    products = tokens * executed_flops(model, sequence_length) * (1 + again) / rate
    held = activations(
        model, micro_batch_size, sequence_length, precision=layout.precision, autocast=layout.autocast, kernels="cuda"
    )
    moved = constants.traffic * held.kept * (1 + again) + LOGIT_BYTES * tokens * shape.padded_vocab_size
    traffic = moved / cluster.gpu.memory_bandwidth
    launch = constants.launch_seconds * (shape.num_hidden_layers + 1) * (1 + again)
    steps = layout.accumulation
    backward = (products + traffic) * 2 / 3
    hidden, exposed = _communication(model, layout, cluster, backward, products + traffic, constants)
    mixed_hidden, mixed_exposed = _all_to_all(shape, layout, cluster, tokens, constants)
    return StepTime(
        matmul=steps * products,
        traffic=steps * traffic,
        launch=steps * launch,
        update=_update_seconds(model, layout, cluster) + _orthogonalisation_seconds(model, layout, cluster, constants),
        exposed_communication=exposed + steps * mixed_exposed,
        hidden_communication=hidden + steps * mixed_hidden,
    )


def matmul_rate(gpu: Gpu, precision: str) -> float:
    """FLOPs a second of the best large product on a device.

    fp32 on a GPU is taken as its TF32 units would give, half of the 16-bit rate: what torch does when it is allowed to.
    bf16 on a device without bf16 units runs in fp32 there, at an eighth.
    """
    share = gpu.matmul_share if gpu.matmul_share is not None else ASSUMED_MATMUL_SHARE
    rate = gpu.peak_flops * share
    if gpu.name != "cpu" and precision == "fp32":
        return rate / 2
    if precision == "bf16" and gpu.half_type == "fp16":
        return rate / 8
    return rate


def _product_rate(gpu: Gpu, precision: str, width: int, constants: Constants) -> float:
    """FLOPs a second of products of that width within a model."""
    return matmul_rate(gpu, precision) * constants.matmul * width / (width + constants.narrow)


def executed_flops(model: ModelSection, sequence_length: int) -> float:
    """FLOPs of a token that are really computed: attention skips what the causal mask hides and computes scores again.

    Of the full square's 12 a layer, entry and position, a flash kernel executes 7: half of (4 forward, 10 backward).
    """
    shape = decoder_shape(model)
    full = 12 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * sequence_length
    return flops_per_token(model, sequence_length) - full * (1 - 7 / 12)


def _update_seconds(model: ModelSection, layout: Layout, cluster: Cluster) -> float:
    """Adam on this rank's part; offloaded, its gradients and weights cross the bus and the host's memory does the work."""
    dense, experts = split_parameters(model, layout.ep_size)
    if layout.stage == 0:
        mine = float(dense + experts)
    else:
        mine = dense / layout.world_size + experts / max(1, layout.world_size // layout.ep_size)
    if not layout.optimizer_offloaded:
        return mine * UPDATE_BYTES / cluster.gpu.memory_bandwidth
    host = HOST_MEMORY_BANDWIDTH / cluster.gpus_per_node
    return mine * (UPDATE_BYTES / host + (4 + layout.weight_bytes) / PCIE_BANDWIDTH)


def _orthogonalisation_seconds(model: ModelSection, layout: Layout, cluster: Cluster, constants: Constants) -> float:
    """Muon's products: each matrix on one rank (on every rank at stage 0), and at stage 3 its way there and back.

    A Newton-Schulz step of an (m, n) matrix, m the smaller, takes 4 m^2 n + 2 m^3 FLOPs: its Gram matrix, the square of that, and
    their product with it. Stages 1 and 2 send only the matrices that a cut goes through, which is left out.
    """
    if layout.optimizer != "muon":
        return 0.0
    precision = layout.precision if layout.precision == "bf16" else "fp32"
    seconds = 0.0
    for (rows, columns), count in hidden_matrices(model).items():
        narrow, wide = sorted((rows, columns))
        flops = layout.newton_schulz_steps * (4 * narrow**2 * wide + 2 * narrow**3)
        seconds += count * flops / _product_rate(cluster.gpu, precision, narrow, constants)
    if layout.stage == 0:
        return seconds
    values = sum(rows * columns * count for (rows, columns), count in hidden_matrices(model).items())
    crossing = 2 * values * (2 if precision == "bf16" else 4) if layout.stage == 3 else 0
    ring = (cluster.world_size - 1) / cluster.world_size / (cluster.ring_bandwidth * constants.link)
    return (seconds + crossing * ring) / layout.world_size


def _communication(
    model: ModelSection, layout: Layout, cluster: Cluster, backward: float, both: float, constants: Constants
) -> tuple[float, float]:
    """Seconds a step of collectives over the ranks that hide, and that do not.

    Stage 0 and DeepSpeed's BF16_Optimizer reduce after the last backward pass and hide nothing. Stages 1 and 2 reduce in
    the backward pass, with overlap_comm beside it: stage 1 in the last micro-step, stage 2 in each. Stage 3 gathers weights
    for both passes of each micro-step and scatters gradients, beside both.
    """
    ranks = cluster.world_size
    if ranks == 1:
        return 0.0, 0.0
    dense, experts = split_parameters(model, layout.ep_size)
    weights = dense + (experts if layout.ep_size == 1 else 0)
    ring = (ranks - 1) / ranks / (cluster.ring_bandwidth * constants.link)
    half = 4 if layout.precision == "fp32" else 2
    steps = layout.accumulation
    overlaps = bool(layout.key("overlap_comm", layout.stage == 3))
    if layout.stage == 3:
        seconds, window = 3 * steps * weights * layout.weight_bytes * ring, steps * both
    elif layout.stage == 2:
        gather = weights * layout.weight_bytes * ring
        seconds, window = steps * weights * half * ring, steps * backward
        hidden, exposed = _hide(seconds, window if overlaps else 0.0, constants)
        return hidden, exposed + gather
    elif layout.stage == 1 and not layout.bf16_optimizer:
        gather = weights * layout.weight_bytes * ring
        hidden, exposed = _hide(2 * weights * half * ring, backward if overlaps else 0.0, constants)
        return hidden, exposed + gather
    else:
        gradient = 4 if layout.stage == 0 else half
        gather = weights * layout.weight_bytes * ring if layout.stage else 0.0
        return 0.0, 2 * weights * gradient * ring + gather
    return _hide(seconds, window if overlaps else 0.0, constants)


def _hide(seconds: float, window: float, constants: Constants) -> tuple[float, float]:
    hidden = min(seconds, constants.overlap * window)
    return hidden, seconds - hidden


def _all_to_all(
    shape: DecoderShape, layout: Layout, cluster: Cluster, tokens: int, constants: Constants
) -> tuple[float, float]:
    """Seconds a micro-step in which experts on other ranks get and return their tokens, forward and backward."""
    if shape.moe is None or layout.ep_size == 1:
        return 0.0, 0.0
    within = cluster.gpu.link_bandwidth
    bandwidth = within
    if layout.ep_size > cluster.gpus_per_node:
        bandwidth = min(within, cluster.interconnect_bandwidth / cluster.gpus_per_node)
    half = 4 if layout.precision == "fp32" else 2
    rows = tokens * shape.moe.num_experts_per_tok * (layout.ep_size - 1) / layout.ep_size
    crossing = 4 * len(shape.experts) * rows * shape.hidden_size * half
    return 0.0, crossing / (bandwidth * constants.link)
