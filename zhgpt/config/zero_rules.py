"""What cannot go together inside a DeepSpeed JSON, and between it and a run: found here, before a model is built.

DeepSpeed finds some of these after minutes, ignores others silently. Sources: deepspeed/runtime/zero/stage_1_and_2.py,
stage3.py, runtime/engine.py (`_do_optimizer_sanity_check`) and utils/groups.py, version 0.19.8.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from zhgpt.config.zero_keys import ZERO_KEYS

if TYPE_CHECKING:
    from zhgpt.config.schema import RunConfig

Accelerator = Literal["cpu", "cuda"]
QUANTIZED = ("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients")


def zero_stage(ds_json: Mapping[str, Any]) -> int:
    """ZeRO stage of a checked DeepSpeed JSON; 0 when it has none."""
    return int(ds_json.get("zero_optimization", {}).get("stage", 0))


def offload_device(ds_json: Mapping[str, Any], what: Literal["offload_optimizer", "offload_param"]) -> str:
    """Where the optimizer states or the parameters go: "none", "cpu" or "nvme"."""
    return str(ds_json.get("zero_optimization", {}).get(what, {}).get("device", "none"))


def stage_problems(ds_json: Mapping[str, Any]) -> list[str]:
    """Keys of a DeepSpeed JSON that its ZeRO stage cannot use, one sentence each. Types are right already."""
    stage = zero_stage(ds_json)
    if stage not in (0, 1, 2, 3):
        return [f"zero_optimization.stage must be 0, 1, 2 or 3, found {stage}"]
    problems = []
    zero = ds_json.get("zero_optimization", {})
    for name in zero:
        stages = ZERO_KEYS[name].stages
        if stage not in stages:
            problems.append(
                f"zero_optimization.{name} needs stage {_either(stages)}, this file has stage {stage}; "
                "change the stage or remove the key"
            )
    return [*problems, *_offload_problems(ds_json), *_scaling_problems(ds_json, stage)]


def _offload_problems(ds_json: Mapping[str, Any]) -> list[str]:
    stage, zero = zero_stage(ds_json), ds_json.get("zero_optimization", {})
    problems = []
    for what in ("offload_optimizer", "offload_param"):
        if offload_device(ds_json, what) != "nvme":
            continue
        if stage != 3:
            problems.append(f"zero_optimization.{what}.device nvme needs stage 3, this file has stage {stage}")
        if not zero[what].get("nvme_path"):
            problems.append(f"zero_optimization.{what}.device nvme needs nvme_path, a folder on a local disk")
    optimizer = zero.get("offload_optimizer", {})
    if optimizer.get("super_offload") or "cpuadam_cores_perc" in optimizer:
        problems.append(
            "zero_optimization.offload_optimizer: super_offload and cpuadam_cores_perc are for Grace "
            "Hopper and replace the optimizer, which is not supported; remove them"
        )
    ratio = optimizer.get("ratio", 1.0)
    if not 0 <= ratio <= 1:
        problems.append(f"zero_optimization.offload_optimizer.ratio must be between 0 and 1, found {ratio}")
    elif ratio < 1 and stage != 3:
        problems.append(
            f"zero_optimization.offload_optimizer.ratio {ratio} (partial offload) needs stage 3, this file "
            f"has stage {stage}"
        )
    return problems


def _scaling_problems(ds_json: Mapping[str, Any], stage: int) -> list[str]:
    """Gradient scaling that DeepSpeed refuses late, ignores (stage 1) or applies twice (stage 3)."""
    scatter = bool(ds_json.get("zero_optimization", {}).get("reduce_scatter", True))
    problems = []
    for name, plain in (("prescale_gradients", False), ("gradient_predivide_factor", 1)):
        value = ds_json.get(name, plain)
        if value == plain:
            continue
        if name == "gradient_predivide_factor" and value <= 0:
            problems.append(f"gradient_predivide_factor must be greater than 0, found {value}")
        elif stage == 3:
            problems.append(f"{name} does not work with ZeRO stage 3 in DeepSpeed; remove it")
        elif stage > 0 and scatter:
            problems.append(
                f'{name} works with ZeRO stage {stage} only without reduce scatter: add "reduce_scatter": '
                "false to zero_optimization, or remove it"
            )
    if ds_json.get("prescale_gradients") and ds_json.get("gradient_predivide_factor", 1) != 1:
        problems.append("gradient_predivide_factor has no effect with prescale_gradients; remove one of them")
    return problems


def run_problems(
    config: "RunConfig", ds_json: Mapping[str, Any], world_size: int, accelerator: Accelerator
) -> list[str]:
    """What in this run, on this accelerator and world size, does not go with the DeepSpeed JSON."""
    precision, stage = config.train.precision, zero_stage(ds_json)
    zero = ds_json.get("zero_optimization", {})
    problems = []
    if precision == "fp16" and accelerator == "cpu":
        problems.append("train.precision fp16 does not run on the CPU; take bf16 or fp32")
    elif precision == "fp16" and stage == 0:
        problems.append(
            "train.precision fp16 with ZeRO stage 0 would accumulate gradients in fp16; take stage 1 "
            "(ds_configs/zero1.json) or bf16"
        )
    if ds_json.get("communication_data_type") == "fp16" and precision != "fp16":
        problems.append(
            f"communication_data_type fp16 with train.precision {precision}: gradients past 65504 would "
            "become infinite; take bf16 or fp32"
        )
    if config.train.compile == "blocks" and stage == 3:
        problems.append(
            "train.compile blocks with ZeRO stage 3: its hooks gather weights block by block and a compiled block leaves them "
            "out; take train.compile=off or stage 2"
        )
    problems += _mixture_problems(config, stage, world_size)
    problems += _muon_problems(config, ds_json)
    hpz = zero.get("zero_hpz_partition_size", 1)
    if hpz < 1 or world_size % hpz:
        fitting = ", ".join(str(size) for size in range(1, world_size + 1) if world_size % size == 0)
        problems.append(
            f"zero_optimization.zero_hpz_partition_size {hpz} does not divide world size {world_size}; "
            f"these do: {fitting}"
        )
    for name in QUANTIZED:
        if zero.get(name) and accelerator == "cpu":
            problems.append(f"zero_optimization.{name} needs a GPU: its kernels are CUDA's")
    if zero.get("zero_quantized_gradients") and not zero.get("reduce_scatter", True):
        problems.append("zero_optimization.zero_quantized_gradients needs reduce_scatter; remove one of them")
    if zero.get("offload_optimizer", {}).get("ratio", 1.0) < 1 and accelerator == "cpu":
        problems.append("zero_optimization.offload_optimizer.ratio below 1 keeps a part on the GPU, and there is none")
    if ds_json.get("aio", {}).get("use_gds") and accelerator == "cpu":
        problems.append("aio.use_gds (GPU direct storage) needs a GPU")
    return problems


def _mixture_problems(config: "RunConfig", stage: int, world_size: int) -> list[str]:
    """What a mixture of experts needs of the ranks and of ZeRO (deepspeed/runtime/engine.py)."""
    moe, ep_size = config.model.moe, config.train.ep_size
    if moe is None:
        return []
    problems = []
    if world_size % ep_size:
        fitting = ", ".join(str(size) for size in range(1, world_size + 1) if world_size % size == 0)
        problems.append(f"train.ep_size {ep_size} does not divide world size {world_size}; these do: {fitting}")
    if stage == 3 and (moe.layer == "deepspeed" or ep_size > 1):
        which = "DeepSpeed's own mixture" if moe.layer == "deepspeed" else "experts that are shared out over ranks"
        problems.append(
            f"ZeRO stage 3 cannot hold {which}; take ZeRO stage 2 (ds_configs/moe_zero2.json), or model.moe.layer=dropless "
            "with train.ep_size=1"
        )
    if moe.layer == "reference" and (stage > 1 or config.train.precision != "fp32"):
        problems.append(
            "model.moe.layer reference is for comparing: it runs in fp32 with ZeRO stage 0 or 1, because not every expert gets "
            "a gradient in every step; take dropless"
        )
    return problems


def _muon_problems(config: "RunConfig", ds_json: Mapping[str, Any]) -> list[str]:
    """What Muon cannot have: its step needs the whole vector of a parameter group in memory, and itself to make it."""
    if config.optim.name != "muon":
        return []
    problems = []
    if offload_device(ds_json, "offload_optimizer") == "nvme":
        problems.append(
            "optim.name muon does not go with zero_optimization.offload_optimizer.device nvme; take cpu "
            "(ds_configs/zero3_offload.json), or optim.name=adamw"
        )
    ratio = ds_json.get("zero_optimization", {}).get("offload_optimizer", {}).get("ratio", 1.0)
    if ratio < 1:
        problems.append(
            f"optim.name muon does not go with zero_optimization.offload_optimizer.ratio {ratio} (partial offload), where "
            "DeepSpeed steps a part with an optimizer of its own; remove ratio, or take optim.name=adamw"
        )
    return problems


def _either(stages: tuple[int, ...]) -> str:
    return " or ".join(", ".join(map(str, stages)).rsplit(", ", 1))
