"""Tokens to their experts and back: sorted by expert on one rank, exchanged between the ranks that share the experts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed
from torch import Tensor

SIZES_TO_THE_MEAN = 32
"""Loads that are rounded up are multiples of this part of the mean load, or a little less."""

_STRETCH = 512  # rows: of 384 fp32 numbers each, less than the second cache holds


@dataclass(frozen=True)
class Sorting:
    """The M = T * R assignments of a micro batch in the order of their experts, at P >= M places.

    Attributes:
        order_P: int64, the assignment (token * R + place) that stands at each place; M where none does.
        token_P: int64, its token; 0 where there is none.
        inverse_M: int64, where each assignment stands.
        load_E: int64, assignments of each expert.
        ends_E: int64, where the places of each expert end; the free ones are its last.
        top_k: R.
    """

    order_P: Tensor
    token_P: Tensor
    inverse_M: Tensor
    load_E: Tensor
    ends_E: Tensor
    top_k: int


def sort_by_expert(chosen_TR: Tensor, num_experts: int, *, round_up: bool = False) -> Sorting:
    """Return the stable order by expert: tokens of one expert stay in the order of the sequence.

    Args:
        chosen_TR: int64, the experts of each token.
        num_experts: E.
        round_up: leave some places of each expert free, so that products of few different sizes are asked for. On a CPU oneDNN
            compiles a bf16 product for each new size, and keeps about a thousand: with loads that change from step to step this
            took a tenth of the demo's step with 8 experts, and half a gigabyte. About a sixtieth more is computed.
    """
    chosen_M, top_k = chosen_TR.flatten(), chosen_TR.shape[1]
    order_M = chosen_M.argsort(stable=True)
    # Not bincount: on a GPU it reads smallest and largest back before it counts.
    load_E = chosen_M.new_zeros(num_experts).scatter_add_(0, chosen_M, torch.ones_like(chosen_M))
    places_M = torch.arange(order_M.shape[0], device=order_M.device)
    order_P, token_P, ends_E = order_M, order_M // top_k, load_E.cumsum(0)
    if round_up:
        room_E = rounded_up(load_E, order_M.shape[0])
        free_before_E = room_E.cumsum(0) - room_E - ends_E + load_E
        places_M = places_M + free_before_E.index_select(0, chosen_M.index_select(0, order_M))
        ends_E = room_E.cumsum(0)
        order_P = order_M.new_full((int(ends_E[-1]),), order_M.shape[0]).index_copy_(0, places_M, order_M)
        token_P = torch.zeros_like(order_P).index_copy_(0, places_M, token_P)
    inverse_M = torch.empty_like(order_M)
    inverse_M[order_M] = places_M
    return Sorting(order_P, token_P, inverse_M, load_E, ends_E, top_k)


def rounded_up(load_E: Tensor, assignments: int) -> Tensor:
    """The next multiple of a power of two, of each: the largest that is at most the mean load / ``SIZES_TO_THE_MEAN``."""
    multiple = 1 << max(0, (assignments // (SIZES_TO_THE_MEAN * load_E.shape[0])).bit_length() - 1)
    return (load_E + multiple - 1) // multiple * multiple


def spread(x_TD: Tensor, sorting: Sorting) -> Tensor:
    """Return a row for each place, (P, D). In a free one stands some token, and its gradient is not read."""
    return cast(Tensor, _Spread.apply(x_TD, sorting))


def combine(rows_PD: Tensor, weights_TR: Tensor, sorting: Sorting) -> Tensor:
    """Return each token's weighted sum over its experts (T, D), summed in fp32, in the dtype of the rows.

    Args:
        rows_PD: what the experts gave, in sorted order. The gradient of a free place is 0.
        weights_TR: fp32.
        sorting: that of ``spread``.
    """
    return cast(Tensor, _Combine.apply(rows_PD, weights_TR, sorting))


class _Spread(torch.autograd.Function):
    """x[token]. Its gradient is gathered and summed over R, not scattered: faster, and the same at each run."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, sorting: Sorting) -> Tensor:
        ctx.sorting = sorting
        return x_TD.index_select(0, sorting.token_P)

    @staticmethod
    def backward(ctx: Any, grad_PD: Tensor) -> tuple[Tensor | None, ...]:
        sorting = ctx.sorting
        if sorting.top_k == 1:
            return grad_PD.index_select(0, sorting.inverse_M), None
        grad_TD = grad_PD.new_empty(sorting.inverse_M.shape[0] // sorting.top_k, grad_PD.shape[1])
        for stretch in stretches(grad_TD):
            first, *others = _of_each_token(grad_PD, sorting, stretch)
            total_tD = first.float()
            for other in others:
                total_tD += other
            grad_TD[stretch] = total_tD
        return grad_TD, None


class _Combine(torch.autograd.Function):
    """The sum over R of weight * row[inverse], with gathers in both directions."""

    @staticmethod
    def forward(ctx: Any, rows_PD: Tensor, weights_TR: Tensor, sorting: Sorting) -> Tensor:
        ctx.sorting = sorting
        ctx.save_for_backward(rows_PD, weights_TR)
        mixed_TD = rows_PD.new_empty(weights_TR.shape[0], rows_PD.shape[1])
        for stretch in stretches(mixed_TD):
            first, *others = _of_each_token(rows_PD, sorting, stretch)
            weights_tR = weights_TR[stretch]
            total_tD = first * weights_tR[:, :1]
            for place, other in enumerate(others, start=1):
                total_tD.addcmul_(other.float(), weights_tR[:, place : place + 1])
            mixed_TD[stretch] = total_tD
        return mixed_TD

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        rows_PD, weights_TR = ctx.saved_tensors
        sorting = ctx.sorting
        grad_PD = torch.empty_like(rows_PD)
        weights_and_zero = torch.cat([weights_TR.flatten(), weights_TR.new_zeros(1)])
        weights_P1 = weights_and_zero.index_select(0, sorting.order_P)[:, None]
        grad_weights_P = weights_TR.new_empty(rows_PD.shape[0])
        for stretch in stretches(rows_PD):
            grad_pD = grad_TD.index_select(0, sorting.token_P[stretch])
            grad_weights_P[stretch] = (grad_pD.float() * rows_PD[stretch]).sum(dim=1)
            grad_PD[stretch] = grad_pD * weights_P1[stretch]
        grad_weights_TR = grad_weights_P.index_select(0, sorting.inverse_M).view(weights_TR.shape)
        return grad_PD, grad_weights_TR, None


def stretches(rows: Tensor) -> Iterator[slice]:
    """All rows on a GPU; some hundred at a time on a CPU, where what is made of them on the way then stays in the cache."""
    step = _STRETCH if rows.device.type == "cpu" else max(1, rows.shape[0])
    return (slice(start, start + step) for start in range(0, rows.shape[0], step))


def _of_each_token(rows_PD: Tensor, sorting: Sorting, tokens: slice) -> tuple[Tensor, ...]:
    """The rows of the R places of these tokens, each (T, D). ``index_select``: 6 times as fast as an index on the CPU."""
    inverse_TR = sorting.inverse_M.unflatten(0, (-1, sorting.top_k))[tokens]
    return rows_PD.index_select(0, inverse_TR.flatten()).unflatten(0, (-1, sorting.top_k)).unbind(1)


@dataclass(frozen=True)
class Exchange:
    """How rows travel between the P ranks that share the experts of a layer.

    Attributes:
        sent: rows this rank sends to each rank.
        received: rows it gets from each.
        by_expert_N, back_N: int64, the received rows in the order of this rank's experts, and back.
        ends_L: int32, where the rows of each of this rank's experts end.
        group: the expert-parallel process group.
    """

    sent: list[int]
    received: list[int]
    by_expert_N: Tensor
    back_N: Tensor
    ends_L: Tensor
    group: Any


def plan_exchange(load_E: Tensor, group: Any) -> Exchange:
    """Tell the other ranks how many rows each expert gets from here; waits for the device, because sizes are the host's."""
    ranks = torch.distributed.get_world_size(group)
    load_PL = load_E.unflatten(0, (ranks, -1))
    from_PL = torch.empty_like(load_PL)
    torch.distributed.all_to_all_single(from_PL, load_PL.contiguous(), group=group)
    sent, received = torch.stack([load_PL.sum(dim=1), from_PL.sum(dim=1)]).tolist()
    # Received: rank after rank, in each its rows for our experts in turn. Wanted: expert after expert.
    local_experts = from_PL.shape[1]
    expert_PL = torch.arange(local_experts, device=load_E.device).repeat(ranks)
    expert_N = expert_PL.repeat_interleave(from_PL.flatten(), output_size=sum(received))  # known: nobody waits again
    by_expert_N = expert_N.argsort(stable=True)
    back_N = torch.empty_like(by_expert_N)
    back_N[by_expert_N] = torch.arange(by_expert_N.shape[0], device=load_E.device)
    ends_L = from_PL.sum(dim=0).cumsum(0).to(torch.int32)
    return Exchange(sent, received, by_expert_N, back_N, ends_L, group)


class _AllToAll(torch.autograd.Function):
    """Rows to the ranks of their experts; the gradient goes the opposite way."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], received: list[int], group: Any) -> Tensor:
        ctx.route = sent, received, group
        arrived = rows.new_empty(sum(received), rows.shape[1])
        torch.distributed.all_to_all_single(arrived, rows.contiguous(), received, sent, group=group)
        return arrived

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sent, received, group = ctx.route
        left = grad.new_empty(sum(sent), grad.shape[1])
        torch.distributed.all_to_all_single(left, grad.contiguous(), sent, received, group=group)
        return left, None, None, None


def send(rows_MD: Tensor, exchange: Exchange) -> Tensor:
    """Return the rows that this rank's experts get from all ranks, in the order of the experts."""
    arrived = _AllToAll.apply(rows_MD, exchange.sent, exchange.received, exchange.group)
    return cast(Tensor, _Permute.apply(arrived, exchange.by_expert_N, exchange.back_N))


def send_back(rows_ND: Tensor, exchange: Exchange) -> Tensor:
    """Return what became of this rank's rows, in the order in which it sent them."""
    rows_ND = cast(Tensor, _Permute.apply(rows_ND, exchange.back_N, exchange.by_expert_N))
    return cast(Tensor, _AllToAll.apply(rows_ND, exchange.received, exchange.sent, exchange.group))


class _Permute(torch.autograd.Function):
    """rows[order], whose gradient is grad[inverse]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.index_select(0, ctx.inverse), None, None


class Stopwatch:
    """Seconds spent in a block that ends when the device has: on the CPU only, where a collective returns when it is done.

    On a GPU it measures nothing (a collective is queued there), rather than make the host wait.
    """

    def __init__(self, device: torch.device) -> None:
        self._measures = device.type == "cpu"
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._measures:
            self.seconds += time.perf_counter() - self._started
