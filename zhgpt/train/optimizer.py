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


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights with two or more dimensions decay; norms and biases do not.

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
    if any(not getattr(parameter, "allreduce", True) for parameter in module.parameters()):
        from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

        groups = split_params_into_different_moe_groups_for_optimizer(groups)
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class OptimizerChoice:
    """Which AdamW computes the step, and why."""

    name: str
    note: str

    def build(self, module: nn.Module, section: OptimSection) -> torch.optim.Optimizer:
        """The optimizer over ``module``'s parameters; the rate is set anew at each step."""
        groups = parameter_groups(module, section.weight_decay)
        settings: dict[str, Any] = {"lr": section.peak, "betas": section.betas, "eps": section.eps}
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
