"""Attention backends: what each needs, why it cannot run here if so, and the choice between them."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from zhgpt.errors import SettingError
from zhgpt.model.blocked_attention import blocked_attention
from zhgpt.model.packing import (
    Packing,
    blocked_packing,
    causal_packing,
    masked_packing,
    varlen_causal_packing,
    varlen_packing,
)

HALF_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class AttentionBackend:
    """One way to compute softmax(q k^T / sqrt(K)) v, causal and inside a document.

    Attributes:
        attend: (query (B, S, H, K), key (B, S, G, K), value (B, S, G, K), packing) -> (B, S, H, K).
        pack: (document_ids (B, S), device) -> Packing, for separated documents.
        pack_causal: (B, S, device) -> Packing, for attention across documents.
        why_not: (device type, dtype, head_dim) -> the reason why it cannot run here, or None.
        traceable: whether ``torch.compile`` may look into it; others run between two compiled parts of a block.
    """

    attend: Callable[[Tensor, Tensor, Tensor, Packing], Tensor]
    pack: Callable[[Tensor, torch.device], Packing]
    pack_causal: Callable[[int, int, torch.device], Packing]
    why_not: Callable[[str, torch.dtype, int], str | None]
    traceable: bool = False


@dataclass(frozen=True)
class AttentionChoice:
    """The backend a run uses, and one sentence for each that ``auto`` passed over."""

    name: str
    reasons: tuple[str, ...]


def reference_attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Plain matrix products and softmax in fp32: what every other backend is tested against."""
    group = query.shape[2] // key.shape[2]
    query_BHSK = query.transpose(1, 2).float()
    key_BHSK = key.transpose(1, 2).float().repeat_interleave(group, dim=1)
    value_BHSK = value.transpose(1, 2).float().repeat_interleave(group, dim=1)
    scores_BHSS = query_BHSK @ key_BHSK.transpose(-1, -2) / math.sqrt(query.shape[-1])
    sequence_length = query.shape[1]
    mask = packing.mask
    if mask is None:
        mask = torch.ones(sequence_length, sequence_length, dtype=torch.bool, device=query.device).tril()
    weights_BHSS = scores_BHSS.masked_fill(~mask, float("-inf")).softmax(dim=-1)
    return (weights_BHSS @ value_BHSK).transpose(1, 2).to(query.dtype)


def sdpa_attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention``: its causal path, or a boolean document mask.

    Keys and values are repeated for their query groups here rather than by ``enable_gqa``: with a mask, torch's CUDA
    kernels take grouped heads in the unfused path only, which would store all B * H * S * S scores.
    """
    group = query.shape[2] // key.shape[2]
    query_BHSK, key_BHSK, value_BHSK = (x.transpose(1, 2) for x in (query, key, value))
    if group > 1:
        key_BHSK = key_BHSK.repeat_interleave(group, dim=1)
        value_BHSK = value_BHSK.repeat_interleave(group, dim=1)
    mixed_BHSK = functional.scaled_dot_product_attention(
        query_BHSK, key_BHSK, value_BHSK, attn_mask=packing.mask, is_causal=packing.mask is None
    )
    return mixed_BHSK.transpose(1, 2)


def flash2_attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """FlashAttention 2 from the flash-attn package: ``flash_attn_varlen_func`` over T tokens, grouped heads native."""
    from flash_attn import flash_attn_varlen_func

    starts, longest = cast(Tensor, packing.cu_seqlens), packing.max_seqlen
    mixed_THK = flash_attn_varlen_func(
        query.flatten(0, 1),
        key.flatten(0, 1),
        value.flatten(0, 1),
        cu_seqlens_q=starts,
        cu_seqlens_k=starts,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        causal=True,
    )
    return cast(Tensor, mixed_THK).view(query.shape)


def torch_varlen_attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """FlashAttention 2 from torch itself (``torch.nn.attention.varlen.varlen_attn``, window (-1, 0) = causal)."""
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = cast(Tensor, packing.cu_seqlens), packing.max_seqlen
    mixed_THK = varlen_attn(
        query.flatten(0, 1),
        key.flatten(0, 1),
        value.flatten(0, 1),
        starts,
        starts,
        longest,
        longest,
        window_size=(-1, 0),
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return cast(Tensor, mixed_THK).view(query.shape)


def _runs_everywhere(device_type: str, dtype: torch.dtype, head_dim: int) -> str | None:
    del device_type, dtype, head_dim
    return None


def _why_not_blocked(device_type: str, dtype: torch.dtype, head_dim: int) -> str | None:
    del dtype, head_dim
    return None if device_type == "cpu" else f"it is written for CPUs and this run is on {device_type!r}"


def _why_not_flash_kernel(device_type: str, dtype: torch.dtype, head_dim: int) -> str | None:
    """What both FlashAttention 2 kernels need of the machine and of the model."""
    if device_type != "cuda":
        return f"its kernels need a CUDA GPU and this run is on {device_type!r}"
    if dtype not in HALF_DTYPES:
        return f"its kernels compute in bf16 or fp16 and this run is in {str(dtype).removeprefix('torch.')}"
    if head_dim > 256 or head_dim % 8:
        return f"its kernels take a head_dim that is a multiple of 8 up to 256 and this model's is {head_dim}"
    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        return f"its kernels need compute capability 8.0 (Ampere) and this GPU has {capability[0]}.{capability[1]}"
    return None


def _why_not_flash2(device_type: str, dtype: torch.dtype, head_dim: int) -> str | None:
    if importlib.util.find_spec("flash_attn") is None:
        return "the package flash-attn is not installed (pip install --no-build-isolation flash-attn)"
    reason = _why_not_flash_kernel(device_type, dtype, head_dim)
    if reason is None and importlib.util.find_spec("flash_attn_2_cuda") is None:
        return "flash-attn is installed without its compiled kernels (flash_attn_2_cuda)"
    return reason


def _why_not_torch_varlen(device_type: str, dtype: torch.dtype, head_dim: int) -> str | None:
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen"
    if device_type != "cuda":  # asked first: the import below takes seconds
        return _why_not_flash_kernel(device_type, dtype, head_dim)
    from torch.nn.attention.varlen import varlen_attn

    missing = {"window_size", "enable_gqa"} - set(inspect.signature(varlen_attn).parameters)
    if missing:
        return f"varlen_attn of torch {torch.__version__} does not take {' and '.join(sorted(missing))}"
    return _why_not_flash_kernel(device_type, dtype, head_dim)


ATTENTION_BACKENDS: dict[str, AttentionBackend] = {
    "reference": AttentionBackend(
        reference_attention, masked_packing, causal_packing, _runs_everywhere, traceable=True
    ),
    "blocked": AttentionBackend(blocked_attention, blocked_packing, causal_packing, _why_not_blocked),
    "sdpa": AttentionBackend(sdpa_attention, masked_packing, causal_packing, _runs_everywhere, traceable=True),
    "flash2": AttentionBackend(flash2_attention, varlen_packing, varlen_causal_packing, _why_not_flash2),
    "torch_varlen": AttentionBackend(
        torch_varlen_attention, varlen_packing, varlen_causal_packing, _why_not_torch_varlen
    ),
}
AUTO_ORDER = ("flash2", "torch_varlen", "blocked", "sdpa")


def choose_attention_backend(requested: str, device_type: str, dtype: torch.dtype, head_dim: int) -> AttentionChoice:
    """Return the backend to use: the one asked for, or for ``auto`` the first of ``AUTO_ORDER`` that can run here.

    Args:
        requested: ``model.attention_backend``.
        device_type: "cpu" or "cuda".
        dtype: what queries and keys are computed in (bf16 too where autocast makes them so).
        head_dim: size of one attention head.

    Raises:
        SettingError: an explicitly requested backend is unknown or cannot run here.
    """
    if requested == "auto":
        reasons: list[str] = []
        for name in AUTO_ORDER:
            reason = ATTENTION_BACKENDS[name].why_not(device_type, dtype, head_dim)
            if reason is None:
                return AttentionChoice(name, tuple(reasons))
            reasons.append(f"{name}: {reason}")
        raise AssertionError("the last backend of AUTO_ORDER runs everywhere")
    backend = ATTENTION_BACKENDS.get(requested)
    if backend is None:
        raise SettingError(f"model.attention_backend is {requested!r}; known: auto, {', '.join(ATTENTION_BACKENDS)}.")
    reason = backend.why_not(device_type, dtype, head_dim)
    if reason is not None:
        raise SettingError(
            f"model.attention_backend={requested} cannot run here: {reason}. "
            "Use model.attention_backend=auto to take the fastest one that can."
        )
    return AttentionChoice(requested, ())
