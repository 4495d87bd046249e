"""The one call to ``deepspeed.initialize``, and what DeepSpeed does not do or say by itself."""

from typing import TYPE_CHECKING, Any

import deepspeed
import torch
from deepspeed.utils import safe_get_local_fp32_param
from torch import nn

from zhgpt.train.muon import Muon
from zhgpt.train.zero_layouts import matrix_exchanges

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
    leave_out_averaging_over_one(engine)
    if isinstance(optimizer, Muon):
        optimizer.exchanges = matrix_exchanges(engine)
    return engine


def leave_out_averaging_over_one(engine: "DeepSpeedEngine") -> None:
    """Keeps an engine of one rank from copying all gradients into buffers and back to average them over that rank.

    A quarter of what a ZeRO-1 step of a bf16 model costs beyond forward and backward (docs/speed.md), and its sums of gradients
    stay fp32: on their way DeepSpeed rounds them to ``communication_data_type``, for bf16 models bf16. Only where averaging is
    all that DeepSpeed does there: at stages 2 and 3, and in stage 1's own optimizer, which fp32 and fp16 run in, gradients
    also reach their partitions that way (deepspeed/runtime/engine.py, ``allreduce_gradients``).
    """
    partitions = engine.zero_optimization_partition_gradients() or hasattr(engine.optimizer, "reduce_gradients")
    if engine.dp_world_size == 1 and not partitions:
        engine.enable_backward_allreduce = False


def set_learning_rate(engine: "DeepSpeedEngine", learning_rate: float) -> None:
    """Sets the rate of every parameter group; the schedule is a pure function of the step, outside the engine.

    Args:
        engine: whose groups may have a ``rate_factor``, their own peak as a multiple of ``optim.learning_rate``.
        learning_rate: what the schedule makes of ``optim.learning_rate``.
    """
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate_factor", 1.0)


def set_accumulation(engine: "DeepSpeedEngine", micro_steps: int) -> None:
    """Makes the steps from now on consist of so many micro-steps; between two steps.

    ``engine.set_train_batch_size`` changes the divisor of the loss and where a step ends, and misses two things
    (deepspeed/runtime/engine.py, zero/stage_1_and_2.py). A step ends where the micro-steps *since the start of the process*
    are a multiple, so the count must begin anew. And the ZeRO 1-2 optimizer keeps a copy of the number that it was made
    with, by which it chooses the gradient whose norm it takes where the optimizer is offloaded.
    """
    if engine.gradient_accumulation_steps() == micro_steps:
        return
    engine.set_train_batch_size(engine.train_micro_batch_size_per_gpu() * micro_steps * engine.dp_world_size)
    assert engine.gradient_accumulation_steps() == micro_steps
    engine.micro_steps = 0
    if hasattr(engine.optimizer, "gradient_accumulation_steps"):
        engine.optimizer.gradient_accumulation_steps = micro_steps


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


def master_fragment(parameter: nn.Parameter, stage: int) -> torch.Tensor | None:
    """This rank's part of a parameter's fp32 weights, flat, without a copy where it can; None where it has none.

    Args:
        parameter: of the engine's module.
        stage: ZeRO's. 0: the weights are fp32 themselves (zhgpt.config.zero_rules). 1, 2: DeepSpeed links each parameter to
            the slice of the flat fp32 partition that lies on this rank (deepspeed/utils/mixed_precision_linkage.py).
            3: its partition of every parameter, padded.
    """
    if stage == 0:
        return parameter.detach().reshape(-1)
    if stage == 3:
        local: torch.Tensor = safe_get_local_fp32_param(parameter)
        return local.detach().reshape(-1)
    mapping: Any = getattr(parameter, "_hp_mapping", None)
    return None if mapping is None else mapping.get_hp_fragment().detach().reshape(-1)


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
