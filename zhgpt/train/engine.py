"""The one call to ``deepspeed.initialize``, and the two numbers DeepSpeed does not give by itself."""

from typing import TYPE_CHECKING, Any

import deepspeed
import torch
from torch import nn

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def build_engine(
    module: nn.Module, optimizer: torch.optim.Optimizer, deepspeed_config: dict[str, Any]
) -> "DeepSpeedEngine":
    """Hands the model and its optimizer to DeepSpeed.

    Args:
        module: fp32 weights, the same on every rank.
        optimizer: over this module's parameters.
        deepspeed_config: composed by :func:`zhgpt.config.deepspeed_json.compose_deepspeed_config`.

    Returns:
        The engine; its weights are in the run's precision and partitioned as the ZeRO stage says.
    """
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        config=deepspeed_config,
        dist_init_required=False,
    )
    return engine


def set_learning_rate(engine: "DeepSpeedEngine", learning_rate: float) -> None:
    """Sets the rate of every parameter group; the schedule is a pure function of the step, outside the engine."""
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate


def unpartitioned_gradient_norm(engine: "DeepSpeedEngine") -> float | None:
    """L2 norm of all gradients at ZeRO-0, after backward and before step; None at other stages.

    DeepSpeed's ``get_global_grad_norm()`` is None at stage 0 in fp32. There each rank holds all averaged gradients, so
    the norm is local arithmetic.
    """
    if engine.zero_optimization_stage() > 0:
        return None
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients).item())


def partitioned_gradient_norm(engine: "DeepSpeedEngine") -> float | None:
    """DeepSpeed's global gradient norm before clipping, after step, at ZeRO 1-3."""
    norm = engine.get_global_grad_norm()
    return None if norm is None else float(norm)
