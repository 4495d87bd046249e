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

    ``gate_up_proj`` is (L, 2F, D) for SwiGLU, gate first, as in transformers; ``up_proj`` (L, F, D) for GELU; ``down_proj``
    is (L, D, F). In a state dict each expert has entries of its own, named as DeepSpeed's checkpoint code wants them.

    Args:
        num_local_experts: L.
        hidden_size: D.
        expert_size: F.
        gated: SwiGLU, else GELU.
    """

    def __init__(self, num_local_experts: int, hidden_size: int, expert_size: int, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.widening = "gate_up_proj" if gated else "up_proj"
        width = expert_size * (2 if gated else 1)
        self.register_parameter(self.widening, nn.Parameter(torch.empty(num_local_experts, width, hidden_size)))
        self.down_proj = nn.Parameter(torch.empty(num_local_experts, hidden_size, expert_size))

    def forward(self, rows_MD: Tensor, ends_L: Tensor) -> Tensor:
        """Return what each row's expert makes of it, (M, D).

        Args:
            rows_MD: those of expert 0 first, then those of expert 1 …
            ends_L: int32, where the rows of each expert end; an expert may have none.
        """
        widened = grouped_linear(rows_MD, getattr(self, self.widening), ends_L)
        if self.gated:
            gate_MF, up_MF = widened.chunk(2, dim=-1)
            inner_MF = functional.silu(gate_MF) * up_MF
        else:
            inner_MF = functional.gelu(widened, approximate="tanh")
        return grouped_linear(inner_MF, self.down_proj, ends_L)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self._is_partitioned():
            super()._save_to_state_dict(destination, prefix, keep_vars)
            return
        for name, parameter in self.named_parameters(recurse=False):
            stacked = parameter if keep_vars else parameter.detach()
            for local, expert in enumerate(stacked):
                for part, values in self._parts(name, expert):
                    destination[f"{prefix}deepspeed_experts.{local}.{part}.weight"] = values

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
                for part, values in self._parts(name, expert):
                    key = f"{prefix}deepspeed_experts.{local}.{part}.weight"
                    expected.add(key)
                    if key not in state_dict:
                        missing_keys.append(key)
                    elif state_dict[key].shape != values.shape:
                        error_msgs.append(f"{key}: {list(state_dict[key].shape)}, expected {list(values.shape)}")
                    else:
                        values.copy_(state_dict[key])
        unexpected_keys += [key for key in state_dict if key.startswith(prefix) and key not in expected]

    def _is_partitioned(self) -> bool:
        """Whether ZeRO-3 has taken the weights: DeepSpeed then saves and loads its own pieces, and these are empty."""
        return hasattr(self.down_proj, "ds_id")

    def _parts(self, name: str, expert: Tensor) -> list[tuple[str, Tensor]]:
        """The matrices inside one expert's slice of a parameter."""
        if name == "gate_up_proj":
            gate, up = expert.chunk(2, dim=0)
            return [("gate_proj", gate), ("up_proj", up)]
        return [(name, expert)]


def grouped_linear(rows_MI: Tensor, weight_LOI: Tensor, ends_L: Tensor) -> Tensor:
    """Return rows (M, O): each times the transposed weight of its expert; in autocast's dtype where autocast is on."""
    device_type = rows_MI.device.type
    if torch.is_autocast_enabled(device_type):  # torch's autocast does not know grouped_mm
        dtype = torch.get_autocast_dtype(device_type)
        rows_MI, weight_LOI = rows_MI.to(dtype), weight_LOI.to(dtype)
    return cast(Tensor, _GroupedLinear.apply(rows_MI, weight_LOI, ends_L))


class _GroupedLinear(torch.autograd.Function):
    """``grouped_mm`` with the weight itself kept for the backward pass.

    Autograd would keep the transposed view, which under ZeRO-3 is empty by then: DeepSpeed gathers the parameter anew, and
    a view made before does not follow.
    """

    @staticmethod
    def forward(ctx: Any, rows_MI: Tensor, weight_LOI: Tensor, ends_L: Tensor) -> Tensor:
        ctx.save_for_backward(rows_MI, weight_LOI, ends_L)
        return grouped_mm(rows_MI, weight_LOI.transpose(-2, -1), offs=ends_L)

    @staticmethod
    def backward(ctx: Any, grad_MO: Tensor) -> tuple[Tensor | None, ...]:
        rows_MI, weight_LOI, ends_L = ctx.saved_tensors
        grad_MO = grad_MO.contiguous()
        grad_rows = grouped_mm(grad_MO, weight_LOI, offs=ends_L) if ctx.needs_input_grad[0] else None
        grad_weight = grouped_mm(grad_MO.t(), rows_MI, offs=ends_L) if ctx.needs_input_grad[1] else None
        return grad_rows, grad_weight, None


grouped_mm: Callable[..., Tensor] = functional.grouped_mm
