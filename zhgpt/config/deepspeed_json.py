"""Composes what `deepspeed.initialize` is given: the user's JSON plus everything RunConfig owns, each value stated."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.deepspeed_file import DEFAULT_DEEPSPEED_JSON, load_deepspeed_json
from zhgpt.config.schema import RunConfig
from zhgpt.config.zero_rules import Accelerator, offload_device, run_problems, zero_stage
from zhgpt.errors import SettingError

NEVER_PRINT = 1_000_000_000
"""DeepSpeed's own console lines come every `steps_per_print` steps; ours replace them."""

FP16_BLOCK: dict[str, Any] = {
    "enabled": True,
    "loss_scale": 0,
    "initial_scale_power": 16,
    "loss_scale_window": 1000,
    "hysteresis": 2,
    "min_loss_scale": 1,
}
"""Dynamic loss scaling, 0 meaning dynamic (deepspeed/runtime/precision_config.py)."""


@dataclass(frozen=True, slots=True)
class OffloadAdam:
    """Which Adam computes the step of an offloaded optimizer, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"the optimizer is offloaded and {self.name} computes the step: {self.reason}"


def compose_deepspeed_config(
    config: RunConfig, ds_json: Mapping[str, Any], plan: BatchPlan, *, accelerator: Accelerator
) -> dict[str, Any]:
    """Everything DeepSpeed gets; no value is left to its defaults where a default changes numbers.

    Args:
        config: the run's settings.
        ds_json: a checked DeepSpeed JSON (`load_deepspeed_json`); it is not changed.
        plan: the batch plan of this world size.
        accelerator: "cpu" or "cuda".

    Raises:
        SettingError: the JSON and the run do not go together; one line a problem.
    """
    problems = run_problems(config, ds_json, plan.data_parallel_size, accelerator)
    if problems:
        raise SettingError("\n".join(problems))
    stage = zero_stage(ds_json)
    composed: dict[str, Any] = {
        "train_batch_size": plan.global_batch_size,
        "train_micro_batch_size_per_gpu": plan.micro_batch_size,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps,
        # Left out, DeepSpeed clips at 1.0. At stage 0 zhgpt/train/engine.py clips, by an exact norm.
        "gradient_clipping": config.optim.gradient_clipping if stage > 0 else 0.0,
        "steps_per_print": NEVER_PRINT,
        "checkpoint": {"tag_validation": "Fail"},
        **_precision(config, stage),
    }
    if stage > 0:
        composed["data_types"] = {"grad_accum_dtype": "fp32"}
        if config.optim.name == "muon":
            composed["zero_allow_untested_optimizer"] = (
                True  # ours; DeepSpeed's own Muon clips what it has orthogonalised
            )
    if is_optimizer_offloaded(ds_json):
        # DeepSpeed otherwise refuses any optimizer of ours but DeepSpeedCPUAdam.
        composed["zero_force_ds_cpu_optimizer"] = False
    assert not set(ds_json) & set(composed), "the JSON was not checked by load_deepspeed_json"
    composed.update(deepcopy(dict(ds_json)))
    composed["zero_optimization"] = {"stage": stage, **composed.get("zero_optimization", {})}
    return composed


def _precision(config: RunConfig, stage: int) -> dict[str, Any]:
    if config.train.precision == "fp16":
        return {"fp16": dict(FP16_BLOCK), "bf16": {"enabled": False}}
    if config.train.precision == "fp32":
        return {"fp16": {"enabled": False}, "bf16": {"enabled": False}}
    if stage > 0:
        bf16: dict[str, Any] = {"enabled": True, "check_grad_overflow": True}
        if stage == 1:
            # BF16_Optimizer, the only reader: gradients go into the fp32 sum as they are made, instead of into bf16 gradients
            # that are zeroed, added to, copied and kept (deepspeed/runtime/bf16_optimizer.py). The same numbers.
            bf16["immediate_grad_update"] = True
        return {"fp16": {"enabled": False}, "bf16": bf16}
    # bf16 without ZeRO takes a phantom optimizer step and accumulates in bf16: fp32 weights under autocast instead.
    # The empty list marks no parameter for bf16 communication, so gradients are reduced in fp32
    # (deepspeed/runtime/torch_autocast.py).
    autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    return {"fp16": {"enabled": False}, "bf16": {"enabled": False}, "torch_autocast": autocast}


def is_optimizer_offloaded(ds_json: Mapping[str, Any]) -> bool:
    """Whether the optimizer's states live outside the accelerator."""
    return offload_device(ds_json, "offload_optimizer") != "none"


def choose_offload_adam(
    ds_json: Mapping[str, Any], *, accelerator: Accelerator, cpu_adam_problem: str | None
) -> OffloadAdam | None:
    """Which Adam an offloaded optimizer takes; None when nothing is offloaded.

    Args:
        ds_json: a checked DeepSpeed JSON.
        accelerator: "cpu" or "cuda".
        cpu_adam_problem: why DeepSpeedCPUAdam cannot be built here ("no C++ compiler"), None when it can.

    Raises:
        SettingError: partial offload, which only DeepSpeedCPUAdam can do, where it cannot be built.
    """
    if not is_optimizer_offloaded(ds_json):
        return None
    if accelerator == "cpu":
        return OffloadAdam("torch.optim.AdamW", "on the CPU it needs no C++ build and nothing leaves the device anyway")
    if cpu_adam_problem is None:
        return OffloadAdam("DeepSpeedCPUAdam", "its vectorised C++ step can be built here")
    if ds_json["zero_optimization"]["offload_optimizer"].get("ratio", 1.0) < 1:
        raise SettingError(
            "zero_optimization.offload_optimizer.ratio below 1 needs DeepSpeedCPUAdam, which cannot be built here: "
            f"{cpu_adam_problem}; remove ratio or install what is missing"
        )
    return OffloadAdam("torch.optim.AdamW", f"DeepSpeedCPUAdam cannot be built here: {cpu_adam_problem}")


def composition_notes(config: RunConfig, ds_json: Mapping[str, Any]) -> list[str]:
    """What the composition means where it is not what the settings' names suggest."""
    stage, bf16 = zero_stage(ds_json), config.train.precision == "bf16"
    notes = []
    if stage == 0 and config.optim.gradient_clipping > 0:
        notes.append("ZeRO-0: zhgpt clips the gradients itself, by their norm in float64; the JSON says 0")
    if bf16 and stage == 0:
        notes.append("ZeRO-0 with bf16 runs as fp32 weights under torch autocast; ds_configs/zero1.json is plain bf16")
    if bf16 and stage == 1 and offload_device(ds_json, "offload_optimizer") != "cpu":
        notes.append("ZeRO-1 with bf16 and fp32 gradient accumulation runs in DeepSpeed's BF16_Optimizer")
    if config.optim.name == "muon":
        notes.append(
            "Muon steps the matrices of attention and feed-forward layers, AdamW the rest; gradients are clipped by their "
            "global norm before they are orthogonalised"
        )
    return notes


__all__ = [
    "DEFAULT_DEEPSPEED_JSON",
    "Accelerator",
    "OffloadAdam",
    "choose_offload_adam",
    "compose_deepspeed_config",
    "composition_notes",
    "is_optimizer_offloaded",
    "load_deepspeed_json",
    "offload_device",
    "zero_stage",
]
