"""What a forward pass keeps for the backward pass, in bytes, by arithmetic: the tensors that autograd saves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import DecoderShape, decoder_shape

Kernels = Literal["cpu", "cuda"]
INDEX_BYTES = 8
LOSS_CHUNK_ENTRIES = 2**25
"""Logits in a chunk of the loss; :mod:`zhgpt.model.loss` says why (a test holds that they are the same)."""
LOSS_FP32_ENTRIES = {"cpu": 2**17, "cuda": LOSS_CHUNK_ENTRIES}
"""Those that are worked on in fp32 at a time, likewise; a row at least."""
LOSS_PRODUCT_ROWS = 8192
"""``PRODUCT_ROWS`` of the CPU, likewise; on CUDA all."""
KEPT_ATTENTION_BYTES = 2**26
"""``KEPT_BYTES`` of :mod:`zhgpt.model.blocked_attention`: weights of a layer that are kept; more are computed again."""
ATTENTION_BLOCK = 128
"""``QUERY_BLOCK`` of :mod:`zhgpt.model.packing`."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes of one micro batch on one rank.

    Attributes:
        kept: saved by all layers until the backward pass reaches them.
        layer: of the layer that saves most: what activation checkpointing computes again.
        logits: the loss's chunk of logits and its slope, while the loss is computed.
        head_gradient: fp32 gradient of the output table, which the loss keeps from forward to backward.
        scaled_gradient: the same in the weights' type, beside it when the backward pass begins.
    """

    kept: float
    layer: float
    logits: float
    head_gradient: float
    scaled_gradient: float


def activations(
    model: ModelSection,
    micro_batch_size: int,
    sequence_length: int,
    *,
    precision: str,
    autocast: bool = False,
    recomputed_layers: Collection[int] = (),
    kernels: Kernels = "cuda",
) -> Activations:
    """Count what one micro batch of a resolved model keeps.

    Args:
        model: what ``resolve_model`` returns.
        micro_batch_size: sequences.
        sequence_length: tokens of each.
        precision: ``train.precision``.
        autocast: whether weights and residual stream are fp32 with products in 16 bits (bf16 at ZeRO stage 0).
        recomputed_layers: indices of the layers that activation checkpointing computes again.
        kernels: whose. On the CPU, RMSNorm is made of several operations that keep fp32 copies; on CUDA it is one that keeps
            its input. Attention keeps query, key, value and output; on CUDA one fp32 a head and token more, on the CPU its
            weights where they are few.
    """
    shape = decoder_shape(model)
    tokens = micro_batch_size * sequence_length
    half = 4 if precision == "fp32" else 2
    stream = 4 if autocast else half
    weights = _attention_weight_bytes(shape, micro_batch_size, sequence_length, half) if kernels == "cpu" else 0.0
    layers = [
        tokens * _layer_bytes(shape, layer, half, stream, kernels) + weights for layer in range(shape.num_hidden_layers)
    ]
    shared = tokens * (2 * INDEX_BYTES + (0 if shape.learned_positions else 4 * shape.head_dim))
    final_norm = tokens * _norm_bytes(shape, shape.hidden_size, 1, stream, kernels)
    inputs = tokens * shape.hidden_size * stream
    if autocast:
        # The products take 16-bit copies of their fp32 inputs, one for each of them instead of one they share.
        copies = 3 if shape.gated_feed_forward else 2
        layers = [layer + tokens * copies * shape.hidden_size * half for layer in layers]
    kept = sum(inputs if layer in recomputed_layers else size for layer, size in enumerate(layers))
    vocabulary = shape.padded_vocab_size
    chunk = min(tokens, max(1, LOSS_CHUNK_ENTRIES // vocabulary)) * vocabulary
    # Logits in the products' type, whose place their slopes take; beside them some in fp32 and their softmax, later the
    # chunk's part of the table's gradient before it is added.
    fp32_entries = LOSS_FP32_ENTRIES[kernels]
    softmax = min(chunk, max(fp32_entries, vocabulary))
    table = vocabulary * shape.hidden_size
    if half == 4:
        product = 0
    elif kernels == "cuda":
        product = half * table
    else:  # of some rows, of which some are made fp32 to be added
        product = half * min(table, LOSS_PRODUCT_ROWS * shape.hidden_size) + 4 * min(table, fp32_entries)
    fp32_copies = 1 if half == 4 else 2
    return Activations(
        kept=kept + shared + final_norm + inputs,
        layer=max((layers[layer] for layer in recomputed_layers), default=0.0),
        logits=half * chunk + max(4 * fp32_copies * softmax, product) + tokens * shape.hidden_size * half,
        head_gradient=4.0 * table,
        scaled_gradient=float(stream * table + (0 if stream == 4 else 4 * min(table, fp32_entries))),
    )


def _norm_bytes(shape: DecoderShape, width: int, count: int, stream: int, kernels: Kernels) -> float:
    """What ``count`` norms over ``width`` entries keep of each token, beside the output that the next product keeps."""
    if shape.model_type == "gpt2":
        return count * (width * stream + 2 * 4)
    if kernels == "cuda":
        return count * (width * stream + 4)
    # x in fp32 and x / rms in fp32; the input itself is not kept.
    return count * (2 * 4 * width + 4)


def _layer_bytes(shape: DecoderShape, layer: int, half: int, stream: int, kernels: Kernels) -> float:
    """Bytes a token that one layer keeps."""
    hidden, query = shape.hidden_size, shape.num_attention_heads * shape.head_dim
    key = shape.num_key_value_heads * shape.head_dim
    kept = _norm_bytes(shape, hidden, 2, stream, kernels) + 2 * hidden * half
    if shape.query_key_norm:
        heads = shape.num_attention_heads + shape.num_key_value_heads
        kept += _norm_bytes(shape, shape.head_dim, heads, half, kernels)
    kept += (query + 2 * key + query) * half + (4 * shape.num_attention_heads if kernels == "cuda" else 0)
    return kept + _feed_forward_bytes(shape, layer, half)


def _attention_weight_bytes(shape: DecoderShape, sequences: int, length: int, half: int) -> float:
    """What attention over blocks of queries keeps of one layer: all keys up to the end of each block."""
    heads = sequences * shape.num_attention_heads
    if heads * length * length * half // 2 > KEPT_ATTENTION_BYTES:
        return 0.0
    return heads * length * half * (length + min(length, ATTENTION_BLOCK)) / 2


def _feed_forward_bytes(shape: DecoderShape, layer: int, half: int) -> float:
    """Bytes a token: gate, up, activated gate and their product, or before and after GELU; of every expert it passes."""
    if layer not in shape.experts or shape.moe is None:
        return (4 if shape.gated_feed_forward else 2) * shape.intermediate_size * half
    moe = shape.moe
    passed = moe.num_experts_per_tok + moe.n_shared_experts + (1 if moe.use_residual else 0)
    routed = (
        moe.num_experts_per_tok * shape.hidden_size * half * 2
    )  # sorted inputs, and outputs before they are weighted
    fp32_input = shape.hidden_size if moe.layer == "deepspeed" else 0  # ours makes it anew
    router = 4 * (fp32_input + 3 * shape.experts[layer])
    return passed * (4 if shape.gated_feed_forward else 2) * shape.expert_size * half + routed + router
