"""Where documents lie in a packed micro batch, computed once per forward pass and read by every layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

QUERY_BLOCK = 128
"""Queries that blocked attention takes at a time: of 64, 128 and 256 the fastest at 512 positions and heads of 64."""


@dataclass(frozen=True)
class Packing:
    """What a layer's attention may see.

    Attributes:
        mask: (B or 1, 1, S, S) bool, True where a query (row) may look at a key (column); None means causal over the
            whole sequence.
        cu_seqlens: (N + 1,) int32, where each document starts among the T = B * S tokens, then T; None for the
            backends that read ``mask``.
        max_seqlen: an upper bound of the documents' lengths, in tokens.
        first_keys: (B, S) int64, the first position that each query may look at; None where documents are not separated
            and for the backends that do not read it.
        first_key_of_blocks: of each sequence, ``first_keys`` of every ``QUERY_BLOCK``-th query, on the host.
    """

    mask: Tensor | None
    cu_seqlens: Tensor | None
    max_seqlen: int
    first_keys: Tensor | None = None
    first_key_of_blocks: tuple[tuple[int, ...], ...] | None = None


def causal_packing(batch_size: int, sequence_length: int, device: torch.device) -> Packing:
    """No mask tensor unless documents are separated: the backend's own causal path is about twice as fast."""
    del batch_size, device
    return Packing(mask=None, cu_seqlens=None, max_seqlen=sequence_length)


def masked_packing(document_ids: Tensor, device: torch.device) -> Packing:
    """A boolean mask that keeps attention causal and inside a document.

    Args:
        document_ids: (B, S) int64, the number of the document each token belongs to, on the host or on ``device``.
        device: where attention is computed.
    """
    document_ids = document_ids.to(device, non_blocking=True)
    sequence_length = document_ids.shape[1]
    same_document = document_ids[:, :, None] == document_ids[:, None, :]
    causal = torch.ones(sequence_length, sequence_length, dtype=torch.bool, device=document_ids.device).tril()
    return Packing(mask=(same_document & causal)[:, None], cu_seqlens=None, max_seqlen=sequence_length)


def varlen_causal_packing(batch_size: int, sequence_length: int, device: torch.device) -> Packing:
    """Each sequence of the micro batch is one document of ``sequence_length`` tokens."""
    total = batch_size * sequence_length
    starts = torch.arange(0, total + 1, sequence_length, dtype=torch.int32, device=device)
    return Packing(mask=None, cu_seqlens=starts, max_seqlen=sequence_length)


def varlen_packing(document_ids: Tensor, device: torch.device) -> Packing:
    """Document starts as FlashAttention's cumulative sequence lengths.

    A document starts at the beginning of each sequence and wherever the document id differs from the one before.
    ``max_seqlen`` is the sequence length, an upper bound, so that its value does not change from batch to batch. The starts
    are counted where ``document_ids`` are: on the host, where training leaves them, nobody waits for the device.

    Args:
        document_ids: (B, S) int64, the number of the document each token belongs to.
        device: where attention is computed.
    """
    sequence_length = document_ids.shape[1]
    starts = _starts_here(document_ids).flatten().nonzero().flatten()
    end = torch.full((1,), document_ids.numel(), dtype=starts.dtype, device=starts.device)
    cu_seqlens = torch.cat([starts, end]).to(torch.int32).to(device, non_blocking=True)
    return Packing(mask=None, cu_seqlens=cu_seqlens, max_seqlen=sequence_length)


def blocked_packing(document_ids: Tensor, device: torch.device) -> Packing:
    """Where the document of each query begins; for a CPU, where reading it back costs nothing.

    Args:
        document_ids: (B, S) int64, the number of the document each token belongs to.
        device: the CPU.
    """
    assert device.type == document_ids.device.type == "cpu", "blocked attention is for CPUs"
    sequence_length = document_ids.shape[1]
    positions = torch.arange(sequence_length, device=document_ids.device)
    first_keys = (positions * _starts_here(document_ids)).cummax(dim=1).values
    of_blocks = tuple(tuple(row) for row in first_keys[:, ::QUERY_BLOCK].tolist())
    return Packing(None, None, sequence_length, first_keys, of_blocks)


def _starts_here(document_ids: Tensor) -> Tensor:
    """(B, S) bool: where a document begins, the first position of each sequence always."""
    starts = torch.ones_like(document_ids, dtype=torch.bool)
    starts[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return starts
