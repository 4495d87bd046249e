"""AdamW and its parameter groups: matrices decay, vectors do not."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zhgpt.config.deepspeed_json import choose_offload_adam, is_optimizer_offloaded
from zhgpt.config.schema import OptimSection
from zhgpt.distributed.op_builds import building
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.width_scaling import WidthMultipliers, width_multipliers


def parameter_groups(module: nn.Module, weight_decay: float, width_ratio: float = 1.0) -> list[dict[str, Any]]:
    """Two groups, under muP more: weights with two or more dimensions decay; norms and biases do not.

    Embeddings are matrices and decay as in GPT-2 and GPT-3's published settings. Names are kept so that tests and logs can
    say which parameter is where. Experts that are shared out over ranks stand in groups of their own, which DeepSpeed
    reduces over the ranks that hold the same ones.
    """
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decay if parameter.dim() >= 2 else no_decay).append(parameter)
    groups = [
        {"name": "decay", "params": decay, "weight_decay": weight_decay},
        {"name": "no_decay", "params": no_decay, "weight_decay": 0.0},
    ]
    groups = scaled_by_width(groups, module, width_ratio)
    if any(not getattr(parameter, "allreduce", True) for parameter in module.parameters()):
        from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

        groups = split_params_into_different_moe_groups_for_optimizer(groups)
    return [group for group in groups if group["params"]]


def scaled_by_width(groups: list[dict[str, Any]], module: nn.Module, width_ratio: float) -> list[dict[str, Any]]:
    """Each group as it is, or cut by what the width makes of its parameters' rates (:mod:`zhgpt.model.width_scaling`).

    Args:
        groups: with ``name``, ``params`` and ``weight_decay``; optionally ``rate_factor`` and ``algorithm``.
        module: that the parameters are of, before ZeRO-3 has taken it.
        width_ratio: of :func:`zhgpt.model.width_scaling.width_multipliers`; at 1 nothing changes.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = []
    for group in groups:
        parts: dict[WidthMultipliers, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            algorithm = group.get("algorithm", "adamw")
            multipliers = width_multipliers(names[parameter], parameter.dim(), width_ratio, algorithm)
            parts.setdefault(multipliers, []).append(parameter)
        for multipliers, members in parts.items():
            part = {**group, "params": members}
            if multipliers.learning_rate != 1.0:
                part["name"] = f"{group['name']}_by_width"
                part["rate_factor"] = group.get("rate_factor", 1.0) * multipliers.learning_rate
                part["weight_decay"] = group["weight_decay"] * multipliers.weight_decay
            found.append(part)
    return found


@dataclass(frozen=True)
class OptimizerChoice:
    """Which AdamW computes the step, and why."""

    name: str
    note: str

    def build(self, module: nn.Module, section: OptimSection, width_ratio: float = 1.0) -> torch.optim.Optimizer:
        """The optimizer over ``module``'s parameters; the rate is set anew at each step."""
        groups = parameter_groups(module, section.weight_decay, width_ratio)
        settings: dict[str, Any] = {"lr": section.learning_rate, "betas": section.betas, "eps": section.eps}
        return OPTIMIZERS[self.name](groups, settings)


def _torch_adamw(groups: list[dict[str, Any]], settings: dict[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, **settings, fused=True)


def _deepspeed_cpu_adam(groups: list[dict[str, Any]], settings: dict[str, Any]) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    with building(instead="take offload_optimizer out of the DeepSpeed JSON"):
        optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, **settings, adamw_mode=True)
    return optimizer


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], dict[str, Any]], torch.optim.Optimizer]] = {
    "torch.optim.AdamW": _torch_adamw,
    "DeepSpeedCPUAdam": _deepspeed_cpu_adam,
}


def choose_optimizer(deepspeed_json: Mapping[str, Any], ranks: Ranks) -> OptimizerChoice:
    """torch's AdamW, or DeepSpeed's vectorised CPU Adam where the optimizer is offloaded and every host can build it.

    Reached by all ranks, and the same on all of them: two kinds of Adam in one run would round differently on each host.
    """
    problem = None
    if ranks.accelerator == "cuda" and is_optimizer_offloaded(deepspeed_json):
        problems = zip(ranks.gather(cpu_adam_problem()), ranks.host_names, strict=True)
        problem = next((f"{found} on {host}" for found, host in problems if found is not None), None)
    offload = choose_offload_adam(deepspeed_json, accelerator=ranks.accelerator, cpu_adam_problem=problem)
    if offload is None:
        return OptimizerChoice("torch.optim.AdamW", "torch.optim.AdamW, fused")
    return OptimizerChoice(offload.name, str(offload))


def cpu_adam_problem() -> str | None:
    """Why DeepSpeedCPUAdam cannot be built here, or None."""
    from deepspeed.ops.op_builder import CPUAdamBuilder

    missing = [tool for tool in ("c++", "ninja") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not on PATH"
    return (
        None if CPUAdamBuilder().is_compatible(verbose=False) else "its builder says it does not fit this installation"
    )
