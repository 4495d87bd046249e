"""The experts of one rank, stacked: each projection of all of them is one tensor and one grouped matrix product."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
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
        if torch.is_autocast_enabled(device_type):  # torch's autocast does not know grouped_mm
            dtype = torch.get_autocast_dtype(device_type)
            rows_MD, weights = rows_MD.to(dtype), [weight.to(dtype) for weight in weights]
        function = _GeluExperts if self.gate_proj is None else _GatedExperts
        return cast(Tensor, function.apply(rows_MD, *weights, ends_L))

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


grouped_mm: Callable[..., Tensor] = functional.grouped_mm


class _GatedExperts(torch.autograd.Function):
    """SwiGLU of every expert: three grouped products forward, six backward.

    Written out, because autograd would keep transposed views of the weights, which under ZeRO-3 are empty in the backward
    pass: DeepSpeed gathers the parameter anew, and a view made before does not follow.
    """

    @staticmethod
    def forward(
        ctx: Any, rows_MD: Tensor, gate_LFD: Tensor, up_LFD: Tensor, down_LDF: Tensor, ends_L: Tensor
    ) -> Tensor:
        gate_MF = grouped_mm(rows_MD, gate_LFD.transpose(-2, -1), offs=ends_L)
        up_MF = grouped_mm(rows_MD, up_LFD.transpose(-2, -1), offs=ends_L)
        active_MF = functional.silu(gate_MF)
        inner_MF = active_MF * up_MF
        weights = gate_LFD, up_LFD, down_LDF
        ctx.save_for_backward(rows_MD, *weights, ends_L, gate_MF, up_MF, active_MF, inner_MF)
        return grouped_mm(inner_MF, down_LDF.transpose(-2, -1), offs=ends_L)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        rows_MD, gate_LFD, up_LFD, down_LDF, ends_L, gate_MF, up_MF, active_MF, inner_MF = ctx.saved_tensors
        grad_MD = grad_MD.contiguous()
        grad_down = grouped_mm(grad_MD.t(), inner_MF, offs=ends_L)
        grad_inner_MF = grouped_mm(grad_MD, down_LDF, offs=ends_L)
        grad_up_MF = grad_inner_MF * active_MF
        grad_gate_MF = torch.ops.aten.silu_backward(grad_inner_MF.mul_(up_MF), gate_MF)
        grad_up = grouped_mm(grad_up_MF.t(), rows_MD, offs=ends_L)
        grad_gate = grouped_mm(grad_gate_MF.t(), rows_MD, offs=ends_L)
        grad_rows = grouped_mm(grad_gate_MF, gate_LFD, offs=ends_L).add_(grouped_mm(grad_up_MF, up_LFD, offs=ends_L))
        return grad_rows, grad_gate, grad_up, grad_down, None


class _GeluExperts(torch.autograd.Function):
    """GELU (tanh form) of every expert, written out for the same reason."""

    @staticmethod
    def forward(ctx: Any, rows_MD: Tensor, up_LFD: Tensor, down_LDF: Tensor, ends_L: Tensor) -> Tensor:
        up_MF = grouped_mm(rows_MD, up_LFD.transpose(-2, -1), offs=ends_L)
        inner_MF = functional.gelu(up_MF, approximate="tanh")
        ctx.save_for_backward(rows_MD, up_LFD, down_LDF, ends_L, up_MF, inner_MF)
        return grouped_mm(inner_MF, down_LDF.transpose(-2, -1), offs=ends_L)

    @staticmethod
    def backward(ctx: Any, grad_MD: Tensor) -> tuple[Tensor | None, ...]:
        rows_MD, up_LFD, down_LDF, ends_L, up_MF, inner_MF = ctx.saved_tensors
        grad_MD = grad_MD.contiguous()
        grad_down = grouped_mm(grad_MD.t(), inner_MF, offs=ends_L)
        grad_inner_MF = grouped_mm(grad_MD, down_LDF, offs=ends_L)
        grad_up_MF = torch.ops.aten.gelu_backward(grad_inner_MF, up_MF, approximate="tanh")
        grad_up = grouped_mm(grad_up_MF.t(), rows_MD, offs=ends_L)
        return grouped_mm(grad_up_MF, up_LFD, offs=ends_L), grad_up, grad_down, None
