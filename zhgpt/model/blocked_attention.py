"""Attention for CPUs: matrix products over blocks of queries, softmax in fp32, nothing computed outside a document.

torch's fused kernel multiplies small tiles and reaches a sixth of a core's speed in bf16; the products here are large
enough for oneDNN. Queries are taken ``QUERY_BLOCK`` at a time, of a few sequences if they are short, so that the weights of
a block (N * H * QUERY_BLOCK * S) stay in the cache. Keys after the block and before the document of its first query, to
``KEY_STEP``, are left out of the products; only rows that are still masked inside are filled. No S x S mask exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from zhgpt.model.packing import QUERY_BLOCK, Packing

KEY_STEP = 32
"""Keys before a document that a block's products take at most: oneDNN compiles a product for each new number of keys and keeps
it, 0.2 GB of them for documents of any length in samples of 256."""
WEIGHTS_AT_ONCE = 2**19
"""Entries of a block's weights up to which several sequences are taken together: 2 MiB in fp32. With few heads and short
sequences, one by one, the calls cost more than the arithmetic."""
KEPT_BYTES = 2**26
"""Attention weights of one layer and micro batch that are kept for the backward pass; more are computed again."""


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Mix values: (B, S, H, K), (B, S, G, K), (B, S, G, K) -> (B, S, H, K), grouped heads native."""
    arguments = (query, key, value, packing.first_keys, packing.first_key_of_blocks)
    return cast(Tensor, _BlockedAttention.apply(*arguments))


@dataclass(frozen=True)
class _Block:
    """Queries ``rows`` of N sequences and the keys that any of them sees.

    Attributes:
        later: (rows, rows) fp32, minus infinity where a key is later than the query; added to the scores of the block's
            own keys, which are the last ones.
        outside: (N, rows, keys) bool, True where a key is in an earlier document; None where no document begins inside.
    """

    rows: slice
    keys: slice
    later: Tensor
    outside: Tensor | None


def _blocks(
    length: int, first_keys_NS: Tensor | None, first_key_of_blocks: Sequence[Sequence[int]] | None
) -> Iterator[_Block]:
    """The blocks of N sequences.

    Args:
        length: S.
        first_keys_NS: the first position that each query sees; None: all see position 0.
        first_key_of_blocks: the same of each block's first query, on the host, one row a sequence.
    """
    later = torch.full((QUERY_BLOCK, QUERY_BLOCK), float("-inf")).triu_(1)
    for number, start in enumerate(range(0, length, QUERY_BLOCK)):
        end = min(start + QUERY_BLOCK, length)
        first, outside = 0, None
        if first_keys_NS is not None and first_key_of_blocks is not None:
            first = min(blocks[number] for blocks in first_key_of_blocks) // KEY_STEP * KEY_STEP
            if int(first_keys_NS[:, end - 1].max()) > first:
                outside = torch.arange(first, end) < first_keys_NS[:, start:end, None]
        yield _Block(slice(start, end), slice(first, end), later[: end - start, : end - start], outside)


def _by_group(x_NSHK: Tensor, groups: int) -> Tensor:
    """(N, S, H, K) -> (N * G, H / G, S, K), contiguous: the query heads that share keys lie side by side."""
    return x_NSHK.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1).contiguous()


def _weights(query_GRSK: Tensor, key_GSK: Tensor, block: _Block) -> Tensor:
    """Softmax weights (G, R * rows, keys) fp32 of one block, where G counts the groups of all its sequences; both arguments
    in fp32, the query scaled."""
    rows_GQK = query_GRSK[:, :, block.rows].flatten(1, 2)
    scores_GQJ = torch.bmm(rows_GQK, key_GSK[:, block.keys].transpose(1, 2))
    by_head = scores_GQJ.unflatten(1, (query_GRSK.shape[1], -1))
    by_head[..., -block.later.shape[0] :].add_(block.later)
    if block.outside is not None:
        outside_N11QJ = block.outside[:, None, None]
        by_head.unflatten(0, (len(block.outside), -1)).masked_fill_(outside_N11QJ, float("-inf"))
    return torch.softmax(scores_GQJ, dim=-1)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        first_keys: Tensor | None,
        first_key_of_blocks: Sequence[Sequence[int]] | None,
    ) -> Tensor:
        batch, length, heads, head_dim = query.shape
        groups = key.shape[2]
        weight_bytes = batch * heads * length * length * query.element_size() // 2
        keep = any(ctx.needs_input_grad[:3]) and weight_bytes <= KEPT_BYTES
        kept: list[Tensor] = []
        mixed = torch.empty(query.shape, dtype=query.dtype)
        with torch.autocast("cpu", enabled=False):
            for rows in _sequences(query):
                query_GRSK = _by_group(query[rows].float() / math.sqrt(head_dim), groups)
                key_GSK = _by_group(key[rows].float(), groups)[:, 0]
                value_GSK = _by_group(value[rows], groups)[:, 0]
                for block in _blocks(length, *_of_sequences(first_keys, first_key_of_blocks, rows)):
                    weights_GQJ = _weights(query_GRSK, key_GSK, block).to(query.dtype)
                    mixed_GQK = torch.bmm(weights_GQJ, value_GSK[:, block.keys])
                    _put(mixed[rows, block.rows], mixed_GQK, groups)
                    if keep:
                        kept.append(weights_GQJ)
        ctx.save_for_backward(query, key, value, mixed, first_keys, *kept)
        ctx.first_key_of_blocks = first_key_of_blocks
        return mixed

    @staticmethod
    def backward(ctx: Any, grad_mixed: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, first_keys, *kept = ctx.saved_tensors
        grads = [torch.empty(x.shape, dtype=x.dtype) for x in (query, key, value)]
        weights = iter(kept)
        with torch.autocast("cpu", enabled=False):
            for rows in _sequences(query):
                tensors = [x[rows] for x in (query, key, value, mixed, grad_mixed)]
                blocks = _blocks(query.shape[1], *_of_sequences(first_keys, ctx.first_key_of_blocks, rows))
                _backward(tensors, blocks, weights if kept else None, [grad[rows] for grad in grads])
        return (*grads, None, None)


def _sequences(query_BSHK: Tensor) -> Iterator[slice]:
    """Sequences that are taken together."""
    batch, length, heads, _ = query_BSHK.shape
    step = max(1, WEIGHTS_AT_ONCE // (heads * min(length, QUERY_BLOCK) * length))
    return (slice(start, min(start + step, batch)) for start in range(0, batch, step))


def _of_sequences(
    first_keys: Tensor | None, first_key_of_blocks: Sequence[Sequence[int]] | None, rows: slice
) -> tuple[Tensor | None, Sequence[Sequence[int]] | None]:
    if first_keys is None or first_key_of_blocks is None:
        return None, None
    return first_keys[rows], first_key_of_blocks[rows]


def _put(target_NQHK: Tensor, source_GQK: Tensor, groups: int) -> None:
    """(N * G, R * rows, K) into (N, rows, G * R, K)."""
    target_NQGRK = target_NQHK.unflatten(2, (groups, -1))
    source_NGRQK = source_GQK.unflatten(1, (target_NQGRK.shape[3], -1)).unflatten(0, (-1, groups))
    target_NQGRK.copy_(source_NGRQK.permute(0, 3, 1, 2, 4))


def _backward(
    tensors: Sequence[Tensor], blocks: Iterator[_Block], kept: Iterator[Tensor] | None, grads: Sequence[Tensor]
) -> None:
    """Gradients of N sequences into ``grads``; those of keys and values are summed over the blocks in fp32.

    Args:
        tensors: query (N, S, H, K), key (N, S, G, K), value (N, S, G, K), the forward's result (N, S, H, K), its gradient
            (N, S, H, K).
        blocks: of the sequences.
        kept: the forward's weights; None: they are computed again.
        grads: where those of query, key and value go.
    """
    groups, scale = tensors[1].shape[2], 1.0 / math.sqrt(tensors[0].shape[-1])
    query_GRSK, key_GRSK, value_GRSK, mixed_GRSK, slope_GRSK = (_by_group(x, groups) for x in tensors)
    key_GSK, value_GSK = key_GRSK[:, 0], value_GRSK[:, 0]
    # Row sums of weights times their gradients, without the weights (FlashAttention 2's D; arXiv 2307.08691). They are
    # subtracted inside the product with the values, as two more columns against ones: before the result is rounded to bf16.
    sums_GRS1 = (slope_GRSK.float() * mixed_GRSK).sum(-1, keepdim=True)
    high_GRS1 = sums_GRS1.to(slope_GRSK.dtype)
    less_sums_GRSK = torch.cat([slope_GRSK, -high_GRS1, (high_GRS1 - sums_GRS1).to(slope_GRSK.dtype)], dim=-1)
    value_and_ones_GSK = functional.pad(value_GSK, (0, 2), value=1.0)
    # The forward's own expressions, so that weights computed again are the same bit for bit; unused where they are kept.
    scaled_GRSK = query_GRSK.float() / math.sqrt(query_GRSK.shape[-1]) if kept is None else query_GRSK
    key_fp32_GSK = key_GSK.float() if kept is None else key_GSK
    grad_key_GSK, grad_value_GSK = (torch.zeros(key_GSK.shape, dtype=torch.float32) for _ in range(2))
    for block in blocks:
        weights_GQJ = (
            next(kept) if kept is not None else _weights(scaled_GRSK, key_fp32_GSK, block).to(query_GRSK.dtype)
        )
        slope_GQK = slope_GRSK[:, :, block.rows].flatten(1, 2)
        less_sums_GQK = less_sums_GRSK[:, :, block.rows].flatten(1, 2)
        score_slope_GQJ = torch.bmm(less_sums_GQK, value_and_ones_GSK[:, block.keys].transpose(1, 2)).mul_(weights_GQJ)
        _put(grads[0][:, block.rows], torch.bmm(score_slope_GQJ, key_GSK[:, block.keys]), groups)
        grad_value_GSK[:, block.keys] += torch.bmm(weights_GQJ.transpose(1, 2), slope_GQK)
        rows_GQK = query_GRSK[:, :, block.rows].flatten(1, 2)
        grad_key_GSK[:, block.keys] += torch.bmm(score_slope_GQJ.transpose(1, 2), rows_GQK)
    grads[0].mul_(scale)
    for grad, grad_GSK in ((grads[1], grad_key_GSK.mul_(scale)), (grads[2], grad_value_GSK)):
        grad.copy_(grad_GSK.unflatten(0, (-1, groups)).transpose(1, 2))
