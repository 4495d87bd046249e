"""The one call to ``deepspeed.initialize``, and what DeepSpeed does not do or say by itself."""

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
    """Sets the rate of every parameter group; the schedule is a pure function of the step, outside the engine.

    Args:
        engine: whose groups may have a ``rate_factor``, their own peak as a multiple of ``optim.learning_rate``.
        learning_rate: what the schedule makes of ``optim.learning_rate``.
    """
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate_factor", 1.0)


def clip_unpartitioned_gradients(engine: "DeepSpeedEngine", maximum: float) -> torch.Tensor | None:
    """Scales the gradients of ZeRO-0 down to an L2 norm of ``maximum``, after backward and before step.

    At stage 0 each rank holds all averaged gradients, so this is local arithmetic, but for experts that are shared out: the
    other ranks' count too. DeepSpeed's own clipping is off there
    (:mod:`zhgpt.config.deepspeed_json`): it keeps its norm to itself and sums squares in fp32, which on a CPU is off by
    2e-5 for a million elements and 1e-3 for 25 million. The sum is taken in float64, as DeepSpeed does at stages 1-3.

    Args:
        engine: at an accumulation boundary.
        maximum: 0 leaves the gradients as they are.

    Returns:
        The norm before clipping, a float64 scalar on the device; None at other stages.
    """
    if engine.zero_optimization_stage() > 0:
        return None
    parameters = [parameter for parameter in engine.module.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters]
    norms = torch.stack([torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients])
    norm = torch.linalg.vector_norm(norms)
    shared_out = {str(getattr(parameter, "group_name", "")) for parameter in parameters} - {""}
    for group_name in shared_out:
        # Each rank of the group has other experts: DeepSpeed's own norm there averages over the ranks instead of adding.
        is_expert = torch.tensor([getattr(parameter, "group_name", "") == group_name for parameter in parameters])
        squares = norms.square()
        experts = squares[is_expert.to(norms.device)].sum()
        rest = squares.sum() - experts
        torch.distributed.all_reduce(experts, group=engine.expert_parallel_group[group_name])
        norm = (rest + experts).sqrt()
    if maximum > 0:
        scale = (maximum / (norm + 1e-6)).clamp(max=1.0).float()
        torch._foreach_mul_(gradients, scale)
    return norm


def partitioned_gradient_norm(engine: "DeepSpeedEngine") -> float | None:
    """DeepSpeed's global gradient norm before clipping, after step, at ZeRO 1-3."""
    norm = engine.get_global_grad_norm()
    return None if norm is None else float(norm)


def communication_seconds() -> float:
    """Seconds that this rank has spent in DeepSpeed's collectives since the last call; 0 unless comms_logger is enabled.

    Taken from the timers behind the logger: it reads each without resetting it (deepspeed/comm/comm.py, ``timed_op``), so
    that every latency it records is the sum of all before it. Timers and records are emptied here, which also bounds
    their memory. A collective that is started and waited for elsewhere counts only as far as its start blocks.
    """
    timers = deepspeed.comm.comm.timers.get_timers()
    milliseconds = sum(timer.elapsed(reset=True) for timer in timers.values())
    deepspeed.comm.comms_logger.reset_data()
    return float(milliseconds) / 1000
