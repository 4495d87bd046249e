"""Stand-in for flash-attn's compiled extension: varlen forward and backward in torch, on any device and dtype.

Only the two functions that flash-attn's Python layer calls for ``flash_attn_varlen_func``, with the checks that the C++
side makes (csrc/flash_attn/flash_api.cpp, mha_varlen_fwd and mha_varlen_bwd). What is not needed here is refused.
"""

from itertools import pairwise

import torch
from torch import Tensor

calls: list[str] = []


def varlen_fwd(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor | None,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    seqused_k: Tensor | None,
    leftpad_k: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    p_dropout: float,
    softmax_scale: float,
    zero_tensors: bool,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    return_softmax: bool,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(T, H, K), (T, G, K), (T, G, K) -> out (T, H, K), log-sum-exp (H, T) fp32, nothing, random state."""
    calls.append("varlen_fwd")
    unused = (out, seqused_k, leftpad_k, block_table, alibi_slopes, generator)
    assert all(x is None for x in unused)
    assert (p_dropout, softcap, zero_tensors, return_softmax) == (0.0, 0.0, False, False)
    _check(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    assert is_causal
    assert window_size_left == -1
    assert window_size_right in (-1, 0)
    mixed, log_sums = torch.empty_like(q), q.new_empty(q.shape[1], q.shape[0], dtype=torch.float32)
    for place in _documents(cu_seqlens_q):
        scores, _, value = _scores(q[place], k[place], v[place], softmax_scale)
        log_sums[:, place] = scores.logsumexp(-1)
        mixed[place] = (scores.softmax(-1) @ value).transpose(0, 1).to(q.dtype)
    return mixed, log_sums, q.new_empty(0), torch.zeros(2, dtype=torch.int64, device=q.device)


def varlen_bwd(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    alibi_slopes: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    p_dropout: float,
    softmax_scale: float,
    zero_tensors: bool,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    deterministic: bool,
    generator: torch.Generator | None,
    rng_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fill dq, dk, dv from the saved log-sum-exp (the FlashAttention 2 paper, algorithm 2)."""
    calls.append("varlen_bwd")
    assert is_causal
    assert alibi_slopes is None
    assert generator is None
    assert (p_dropout, softcap, zero_tensors, deterministic) == (0.0, 0.0, False, False)
    _check(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    assert out.shape == dout.shape == q.shape
    assert softmax_lse.shape == (q.shape[1], q.shape[0])
    group = q.shape[1] // k.shape[1]
    slopes = q.new_empty(q.shape[1], q.shape[0], dtype=torch.float32)
    for place in _documents(cu_seqlens_q):
        scores, key, value = _scores(q[place], k[place], v[place], softmax_scale)
        weights = (scores - softmax_lse[:, place, None]).exp()
        d_mixed, mixed = dout[place].transpose(0, 1).float(), out[place].transpose(0, 1).float()
        slopes[:, place] = (d_mixed * mixed).sum(-1)
        d_scores = weights * (d_mixed @ value.transpose(1, 2) - slopes[:, place, None]) * softmax_scale
        dq[place] = (d_scores @ key).transpose(0, 1).to(q.dtype)
        d_key = d_scores.transpose(1, 2) @ q[place].transpose(0, 1).float()
        d_value = weights.transpose(1, 2) @ d_mixed
        dk[place] = d_key.unflatten(0, (-1, group)).sum(1).transpose(0, 1).to(k.dtype)
        dv[place] = d_value.unflatten(0, (-1, group)).sum(1).transpose(0, 1).to(v.dtype)
    return dq, dk, dv, slopes


def _check(q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, max_q: int, max_k: int) -> None:
    tokens, heads, head_dim = q.shape
    assert k.shape == v.shape == (tokens, k.shape[1], head_dim)
    assert heads % k.shape[1] == 0
    assert head_dim % 8 == 0
    assert head_dim <= 256
    assert all(x.stride(-1) == 1 for x in (q, k, v))
    assert starts_q.dtype == starts_k.dtype == torch.int32
    assert starts_q.is_contiguous()
    assert starts_k.is_contiguous()
    assert torch.equal(starts_q, starts_k)
    assert starts_q[0] == 0
    assert starts_q[-1] == tokens
    lengths = starts_q.diff()
    assert int(lengths.min()) > 0
    assert int(lengths.max()) <= min(max_q, max_k)


def _documents(starts: Tensor) -> list[slice]:
    return [slice(first, last) for first, last in pairwise(starts.tolist())]


def _scores(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Causal scores (H, L, L), and keys and values (H, L, K) repeated for their query groups, all fp32."""
    group = q.shape[1] // k.shape[1]
    key = k.transpose(0, 1).float().repeat_interleave(group, dim=0)
    value = v.transpose(0, 1).float().repeat_interleave(group, dim=0)
    scores = q.transpose(0, 1).float() @ key.transpose(1, 2) * scale
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, float("-inf")), key, value
