"""Where norms and gated activations come from: torch, or the Triton kernels of Liger-Kernel on CUDA. Not run on a GPU yet."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from zhgpt.errors import SettingError


@dataclass(frozen=True)
class FusedKernels:
    """One source of kernels.

    Attributes:
        rms_norm: (x (..., D), weight (D,) in x's dtype, epsilon) -> (..., D), computed in fp32.
        silu_mul: (gate, up) -> silu(gate) * up, any equal shapes.
        why_not: device type -> the reason why they cannot run here, or None.
    """

    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    silu_mul: Callable[[Tensor, Tensor], Tensor]
    why_not: Callable[[str], str | None]


def torch_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """torch's own, one kernel."""
    return functional.rms_norm(x, (x.shape[-1],), weight, epsilon)


def torch_silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """Two kernels, and silu(gate) kept for the backward pass."""
    return functional.silu(gate) * up


LIGER_SIGNATURES: dict[tuple[str, str], list[str]] = {
    ("liger_kernel.ops.rms_norm", "LigerRMSNormFunction"): [
        "ctx",
        "X",
        "W",
        "eps",
        "offset",
        "casting_mode",
        "in_place",
    ],
    ("liger_kernel.ops.swiglu", "LigerSiLUMulFunction"): ["ctx", "a", "b"],
}
"""Module and name of what is called of Liger-Kernel: the first parameters of its ``forward``."""


def liger_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Casting mode "gemma" is everything in fp32, as torch's. Not in place: the residual stream needs the same gradient."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    normed: Tensor = LigerRMSNormFunction.apply(x, weight, epsilon, 0.0, "gemma", False)
    return normed


def liger_silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """One kernel; its backward pass computes silu(gate) again."""
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    product: Tensor = LigerSiLUMulFunction.apply(gate, up)
    return product


def _why_not_liger(device_type: str) -> str | None:
    if importlib.util.find_spec("liger_kernel") is None:
        return "the package liger-kernel is not installed (pip install liger-kernel)"
    if device_type != "cuda":
        return f"its kernels need a CUDA GPU and this run is on {device_type!r}"
    return _other_signature()


def _other_signature() -> str | None:
    """Whether the installed version takes the arguments that are given here, in their order."""
    for (module, name), expected in LIGER_SIGNATURES.items():
        function = getattr(importlib.import_module(module), name)
        found = list(inspect.signature(inspect.unwrap(function.forward)).parameters)[: len(expected)]
        if found != expected:
            return f"{name} of this liger-kernel takes {', '.join(found)}; expected {', '.join(expected)}"
    return None


FUSED_KERNELS: dict[str, FusedKernels] = {
    "torch": FusedKernels(torch_rms_norm, torch_silu_mul, lambda _: None),
    "liger": FusedKernels(liger_rms_norm, liger_silu_mul, _why_not_liger),
}


def use_kernels(module: torch.nn.Module, name: str, device_type: str) -> None:
    """Makes every norm and gated feed-forward layer below ``module`` take its kernels from this source.

    Raises:
        SettingError: they cannot run here.
    """
    kernels = FUSED_KERNELS[name]
    reason = kernels.why_not(device_type)
    if reason is not None:
        raise SettingError(f"train.kernels={name} cannot run here: {reason}. Use train.kernels=torch.")
    for part in module.modules():
        if isinstance(getattr(part, "kernels", None), FusedKernels):
            cast(Any, part).kernels = kernels
