"""The experts of one rank, stacked: each projection of all of them is one tensor, and on some GPUs one grouped product."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

LOCAL_WEIGHT = re.compile(r"^deepspeed_experts\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight$")


class StackedExperts(nn.Module):
    """L experts, SwiGLU or GELU (tanh form), without biases.

    ``gate_proj`` (SwiGLU only) and ``up_proj`` are (L, F, D), ``down_proj`` is (L, D, F). In a state dict each expert has
    entries of its own, named as DeepSpeed's checkpoint code wants them.

    Args:
        num_local_experts: L.
        hidden_size: D.
        expert_size: F.
        gated: SwiGLU, else GELU.
    """

    def __init__(self, num_local_experts: int, hidden_size: int, expert_size: int, *, gated: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Parameter(torch.empty(num_local_experts, expert_size, hidden_size)) if gated else None
        self.up_proj = nn.Parameter(torch.empty(num_local_experts, expert_size, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(num_local_experts, hidden_size, expert_size))

    def forward(self, rows_MD: Tensor, ends_L: Tensor) -> Tensor:
        """Return what each row's expert makes of it, (M, D), in autocast's dtype where autocast is on.

        Args:
            rows_MD: those of expert 0 first, then those of expert 1 …
            ends_L: int32, where the rows of each expert end; an expert may have none.
        """
        weights: list[Tensor] = [
            weight for weight in (self.gate_proj, self.up_proj, self.down_proj) if weight is not None
        ]
        device_type = rows_MD.device.type
        available = torch.amp.is_autocast_available(device_type)  # not on the meta device
        if available and torch.is_autocast_enabled(device_type):  # torch's autocast does not know grouped_mm
            dtype = torch.get_autocast_dtype(device_type)
            rows_MD, weights = rows_MD.to(dtype), [weight.to(dtype) for weight in weights]
        return through_experts(rows_MD, weights, ends_L)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._is_partitioned():
            super()._save_to_state_dict(destination, prefix, keep_vars)
            return
        for name, parameter in self.named_parameters(recurse=False):
            stacked = parameter if keep_vars else parameter.detach()
            for local, expert in enumerate(stacked):
                destination[f"{prefix}deepspeed_experts.{local}.{name}.weight"] = expert

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if self._is_partitioned():
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
            return
        expected = set()
        for name, parameter in self.named_parameters(recurse=False):
            for local, expert in enumerate(parameter.detach()):
                key = f"{prefix}deepspeed_experts.{local}.{name}.weight"
                expected.add(key)
                if key not in state_dict:
                    missing_keys.append(key)
                elif state_dict[key].shape != expert.shape:
                    error_msgs.append(f"{key}: {list(state_dict[key].shape)}, expected {list(expert.shape)}")
                else:
                    expert.copy_(state_dict[key])
        unexpected_keys += [key for key in state_dict if key.startswith(prefix) and key not in expected]

    def _is_partitioned(self) -> bool:
        """Whether ZeRO-3 has taken the weights: DeepSpeed then saves and loads its own pieces, and these are empty."""
        return hasattr(self.down_proj, "ds_id")


Product = Callable[..., Tensor]
"""A product of rows and weights, (a, b, out=None): of one expert, or of all at once. Then ``out`` is not used, and the weights
and their gradients below have a first dimension L more than their names say."""


def through_experts(
    rows_MD: Tensor, weights: Sequence[Tensor], ends_L: Tensor, *, one_by_one: bool | None = None
) -> Tensor:
    """Return what each row's expert makes of it, (M, D).

    Args:
        rows_MD: in the order of their experts.
        weights: gate (L, F, D) for SwiGLU, up (L, F, D), down (L, D, F); all in the dtype of the rows.
        ends_L: int32, where the rows of each expert end.
        one_by_one: an expert after the other, rather than grouped products. None: where grouped ones have no kernel
            (:func:`has_grouped_kernel`); and where nobody has a row (a rank with a part of the experts, few tokens), which no
            kernel is asked to take.
    """
    if one_by_one is None:
        one_by_one = rows_MD.shape[0] == 0 or not has_grouped_kernel(rows_MD.device, rows_MD.dtype)
    return cast(Tensor, _Experts.apply(rows_MD, ends_L, one_by_one, *weights))


def has_grouped_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch works on all experts at once there, and rightly: for bf16 on GPUs of compute capability 9 (Hopper).

    Elsewhere ``grouped_mm`` is a loop over the experts, too. On other GPUs it waits for the device in each product, where ours
    waits once for all; on a CPU what one expert works on stays in the cache between its products if it has its turn alone.
    On capability 10 (Blackwell) there is a kernel, but gradients of experts without rows are not zero (pytorch issue 172439).
    """
    if device.type != "cuda":
        return device.type != "cpu"
    return dtype == torch.bfloat16 and torch.cuda.get_device_capability(device)[0] == 9


class _Experts(torch.autograd.Function):
    """Forward and backward of all experts.

    Written out, because autograd would keep transposed views of the weights, which under ZeRO-3 are empty in the backward
    pass: DeepSpeed gathers the parameter anew, and a view made before does not follow.
    """

    @staticmethod
    def forward(ctx: Any, rows_MD: Tensor, ends_L: Tensor, one_by_one: bool, *weights: Tensor) -> Tensor:
        forward = _swiglu if len(weights) == 3 else _gelu
        ctx.one_by_one, ctx.number_of_weights = one_by_one, len(weights)
        if not one_by_one:
            made_MD, kept = forward(_grouped(ends_L), rows_MD, weights, None)
        else:
            made_MD, kept = rows_MD.new_empty(rows_MD.shape[0], weights[-1].shape[1]), []
            ctx.rows_of_experts = _rows_of_experts(ends_L)
            for expert, rows in enumerate(ctx.rows_of_experts):
                of_expert = [weight[expert] for weight in weights]
                of_backward = forward(torch.mm, rows_MD[rows], of_expert, made_MD[rows])[1]
                if any(ctx.needs_input_grad):
                    kept += of_backward
        ctx.save_for_backward(rows_MD, ends_L, *weights, *kept)
        return made_MD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        rows_MD, ends_L, *saved = ctx.saved_tensors
        weights, kept = saved[: ctx.number_of_weights], saved[ctx.number_of_weights :]
        backward = _swiglu_backward if len(weights) == 3 else _gelu_backward
        grad_MD = grad_MD.contiguous()
        if not ctx.one_by_one:
            nowhere = [None] * (1 + len(weights))
            grad_rows, *grads = backward(_grouped(ends_L), grad_MD, rows_MD, weights, kept, nowhere)
            return grad_rows, None, None, *grads
        grad_rows_MD, grads = torch.empty_like(rows_MD), [torch.empty_like(weight) for weight in weights]
        kept_per_expert = len(kept) // len(ctx.rows_of_experts)
        for expert, rows in enumerate(ctx.rows_of_experts):
            backward(
                torch.mm,
                grad_MD[rows],
                rows_MD[rows],
                [weight[expert] for weight in weights],
                kept[expert * kept_per_expert : (expert + 1) * kept_per_expert],
                [grad_rows_MD[rows], *(grad[expert] for grad in grads)],
            )
        return grad_rows_MD, None, None, *grads


def _grouped(ends_L: Tensor) -> Product:
    def product(rows: Tensor, weights: Tensor, out: None = None) -> Tensor:
        return functional.grouped_mm(rows, weights, offs=ends_L)

    return product


def _rows_of_experts(ends_L: Tensor) -> list[slice]:
    """Read back from the device, once for forward and backward."""
    ends = ends_L.tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _swiglu(
    product: Product, rows_MD: Tensor, weights: Sequence[Tensor], out: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """What SwiGLU makes of the rows, and what its backward pass needs of it."""
    gate_FD, up_FD, down_DF = weights
    gate_MF = product(rows_MD, gate_FD.transpose(-2, -1))
    up_MF = product(rows_MD, up_FD.transpose(-2, -1))
    active_MF = functional.silu(gate_MF)
    inner_MF = active_MF * up_MF
    return product(inner_MF, down_DF.transpose(-2, -1), out=out), [gate_MF, up_MF, active_MF, inner_MF]


def _swiglu_backward(
    product: Product,
    grad_MD: Tensor,
    rows_MD: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    out: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """The gradients of rows and weights."""
    gate_FD, up_FD, down_DF = weights
    gate_MF, up_MF, active_MF, inner_MF = kept
    grad_down = product(grad_MD.t(), inner_MF, out=out[3])
    grad_inner_MF = product(grad_MD, down_DF)
    grad_up_MF = grad_inner_MF * active_MF
    grad_gate_MF = torch.ops.aten.silu_backward(grad_inner_MF.mul_(up_MF), gate_MF)
    grad_up = product(grad_up_MF.t(), rows_MD, out=out[2])
    grad_gate = product(grad_gate_MF.t(), rows_MD, out=out[1])
    grad_rows = product(grad_gate_MF, gate_FD, out=out[0]).add_(product(grad_up_MF, up_FD))
    return grad_rows, grad_gate, grad_up, grad_down


def _gelu(
    product: Product, rows_MD: Tensor, weights: Sequence[Tensor], out: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """What GELU (tanh form) makes of the rows, and what its backward pass needs of it."""
    up_FD, down_DF = weights
    up_MF = product(rows_MD, up_FD.transpose(-2, -1))
    inner_MF = functional.gelu(up_MF, approximate="tanh")
    return product(inner_MF, down_DF.transpose(-2, -1), out=out), [up_MF, inner_MF]


def _gelu_backward(
    product: Product,
    grad_MD: Tensor,
    rows_MD: Tensor,
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    out: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """The gradients of rows and weights."""
    up_FD, down_DF = weights
    up_MF, inner_MF = kept
    grad_down = product(grad_MD.t(), inner_MF, out=out[2])
    grad_inner_MF = product(grad_MD, down_DF)
    grad_up_MF = torch.ops.aten.gelu_backward(grad_inner_MF, up_MF, approximate="tanh")
    grad_up = product(grad_up_MF.t(), rows_MD, out=out[1])
    return product(grad_up_MF, up_FD, out=out[0]), grad_up, grad_down
