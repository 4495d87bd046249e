"""The optimizer and its parameter groups."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zhgpt.config.deepspeed_json import choose_offload_adam, is_optimizer_offloaded
from zhgpt.config.optim_groups import group_name, roles_in_groups
from zhgpt.config.schema import OptimSection
from zhgpt.distributed.op_builds import building
from zhgpt.distributed.process_group import Ranks
from zhgpt.model.width_scaling import WidthMultipliers, width_multipliers
from zhgpt.train.muon import Muon
from zhgpt.train.parameter_roles import role_of


def parameter_groups(module: nn.Module, optim: OptimSection, width_ratio: float = 1.0) -> list[dict[str, Any]]:
    """The parameters by what they are (:mod:`zhgpt.train.parameter_roles`), with the settings of each group.

    Embeddings are matrices and decay as in GPT-2 and GPT-3's published settings; norms and biases do not. Experts that are
    shared out over ranks stand in groups of their own, which DeepSpeed reduces over the ranks that hold the same ones.
    """
    groups: list[dict[str, Any]] = []
    parameters = [(role_of(*pair), pair[1]) for pair in module.named_parameters() if pair[1].requires_grad]
    for shared, settings in roles_in_groups(optim).items():
        present = tuple(role for role in shared if any(role == other for other, _ in parameters))
        groups.append(
            {
                "name": group_name(present),
                "roles": present,
                "params": [parameter for role, parameter in parameters if role in present],
                "algorithm": settings.algorithm,
                "peak_learning_rate": settings.learning_rate,
                "rate_factor": settings.learning_rate / optim.peak,
                "weight_decay": settings.weight_decay,
            }
        )
    groups = scaled_by_width(groups, module, width_ratio)
    if any(not getattr(parameter, "allreduce", True) for parameter in module.parameters()):
        from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

        groups = split_params_into_different_moe_groups_for_optimizer(groups)
    return [group for group in groups if group["params"]]


def scaled_by_width(groups: list[dict[str, Any]], module: nn.Module, width_ratio: float) -> list[dict[str, Any]]:
    """Each group as it is, or cut by what the width makes of its parameters' rates (:mod:`zhgpt.model.width_scaling`).

    Args:
        groups: of `parameter_groups`.
        module: that the parameters are of, before ZeRO-3 has taken it.
        width_ratio: of :func:`zhgpt.model.width_scaling.width_multipliers`; at 1 nothing changes.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = []
    for group in groups:
        parts: dict[WidthMultipliers, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            multipliers = width_multipliers(names[parameter], parameter.dim(), width_ratio, group["algorithm"])
            parts.setdefault(multipliers, []).append(parameter)
        for multipliers, members in parts.items():
            part = {**group, "params": members}
            if multipliers.learning_rate != 1.0:
                part["name"] = f"{group['name']}_by_width"
                part["rate_factor"] = group["rate_factor"] * multipliers.learning_rate
                part["weight_decay"] = group["weight_decay"] * multipliers.weight_decay
                part["peak_learning_rate"] = group["peak_learning_rate"] * multipliers.learning_rate
            found.append(part)
    return found


@dataclass(frozen=True)
class OptimizerChoice:
    """What computes the step, and why."""

    name: str
    note: str

    def build(
        self, module: nn.Module, optim: OptimSection, precision: str = "fp32", width_ratio: float = 1.0
    ) -> torch.optim.Optimizer:
        """The optimizer over ``module``'s parameters; rates are set anew at each step.

        Args:
            module: whole, on its device, before DeepSpeed has it.
            optim: the run's section.
            precision: ``train.precision``; in bf16 Muon orthogonalises in bf16.
            width_ratio: of `scaled_by_width`.
        """
        return OPTIMIZERS[self.name](parameter_groups(module, optim, width_ratio), optim, precision)


def _torch_adamw(groups: list[dict[str, Any]], optim: OptimSection, precision: str) -> torch.optim.Optimizer:
    del precision
    return torch.optim.AdamW(groups, lr=optim.peak, betas=optim.betas, eps=optim.eps, fused=True)


def _deepspeed_cpu_adam(groups: list[dict[str, Any]], optim: OptimSection, precision: str) -> torch.optim.Optimizer:
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    del precision
    with building(instead="take offload_optimizer out of the DeepSpeed JSON"):
        optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(
            groups, lr=optim.peak, betas=optim.betas, eps=optim.eps, adamw_mode=True
        )
    return optimizer


def _muon(groups: list[dict[str, Any]], optim: OptimSection, precision: str) -> torch.optim.Optimizer:
    return Muon(
        groups,
        lr=optim.peak,
        betas=optim.betas,
        eps=optim.eps,
        momentum=optim.muon_momentum,
        nesterov=optim.muon_nesterov,
        steps=optim.muon_newton_schulz_steps,
        # fp16 would lose what is small in a gradient before it is normalised.
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimSection, str], torch.optim.Optimizer]] = {
    "torch.optim.AdamW": _torch_adamw,
    "DeepSpeedCPUAdam": _deepspeed_cpu_adam,
    "Muon": _muon,
}


def choose_optimizer(optim: OptimSection, deepspeed_json: Mapping[str, Any], ranks: Ranks) -> OptimizerChoice:
    """torch's AdamW, or DeepSpeed's vectorised CPU Adam where the optimizer is offloaded and every host can build it; or
    Muon, which brings torch's AdamW along.

    Reached by all ranks, and the same on all of them: two kinds of Adam in one run would round differently on each host.
    """
    if optim.name == "muon":
        offloaded = ", offloaded: elementwise work on the CPU" if is_optimizer_offloaded(deepspeed_json) else ""
        return OptimizerChoice("Muon", f"Muon for hidden matrices, torch.optim.AdamW, fused, for the rest{offloaded}")
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
