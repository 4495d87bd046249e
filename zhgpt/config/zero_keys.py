"""The keys of DeepSpeed's JSON that a run may set: a literal copy of DeepSpeed 0.19.8's own fields.

DeepSpeed itself is not imported here (seconds, and torch); a test compares these tables with the installed one.
Sources: deepspeed/runtime/zero/config.py, runtime/zero/offload_config.py, runtime/zero/leaf_module_config.py,
runtime/swap_tensor/constants.py, profiling/constants.py, comm/config.py.
"""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["switch", "count", "number", "text", "words", "mapping"]


@dataclass(frozen=True, slots=True)
class Key:
    """What a key holds, at which ZeRO stages it means anything, and the keys below it."""

    kind: Kind
    stages: tuple[int, ...] = (0, 1, 2, 3)
    choices: tuple[str, ...] = ()
    below: "dict[str, Key]" = field(default_factory=dict)


OFFLOAD_DEVICES = ("none", "cpu", "nvme")
COMMUNICATION_TYPES = ("fp32", "bf16", "fp16")

OFFLOAD_PARAM_KEYS: dict[str, Key] = {
    "device": Key("text", choices=OFFLOAD_DEVICES),
    "nvme_path": Key("text"),
    "buffer_count": Key("count"),
    "buffer_size": Key("count"),
    "max_in_cpu": Key("count"),
    "pin_memory": Key("switch"),
}

OFFLOAD_OPTIMIZER_KEYS: dict[str, Key] = {
    "device": Key("text", choices=OFFLOAD_DEVICES),
    "nvme_path": Key("text"),
    "buffer_count": Key("count"),
    "pin_memory": Key("switch"),
    "pipeline_read": Key("switch"),
    "pipeline_write": Key("switch"),
    "fast_init": Key("switch"),
    "ratio": Key("number"),
    "super_offload": Key("switch"),
    "cpuadam_cores_perc": Key("number"),
}

LEAF_MODULE_KEYS: dict[str, Key] = {
    "classes": Key("words"),
    "names": Key("words"),
    "name_suffixes": Key("words"),
}

SHARDED = (1, 2, 3)
FLAT = (1, 2)
WEIGHTS = (3,)

ZERO_KEYS: dict[str, Key] = {
    "stage": Key("count"),
    "contiguous_gradients": Key("switch", SHARDED),
    "reduce_scatter": Key("switch", SHARDED),
    "reduce_bucket_size": Key("count", SHARDED),
    "use_multi_rank_bucket_allreduce": Key("switch", FLAT),
    "allgather_partitions": Key("switch", FLAT),
    "allgather_bucket_size": Key("count", SHARDED),
    "overlap_comm": Key("switch", SHARDED),
    "offload_param": Key("mapping", WEIGHTS, below=OFFLOAD_PARAM_KEYS),
    "offload_optimizer": Key("mapping", SHARDED, below=OFFLOAD_OPTIMIZER_KEYS),
    "sub_group_size": Key("count", WEIGHTS),
    "stage3_prefetch_bucket_size": Key("count", WEIGHTS),
    "stage3_param_persistence_threshold": Key("count", WEIGHTS),
    "stage3_model_persistence_threshold": Key("count", WEIGHTS),
    "stage3_max_live_parameters": Key("count", WEIGHTS),
    "stage3_max_reuse_distance": Key("count", WEIGHTS),
    "stage3_gather_16bit_weights_on_model_save": Key("switch", WEIGHTS),
    "stage3_module_granularity_threshold": Key("count", WEIGHTS),
    "stage3_use_all_reduce_for_fetch_params": Key("switch", WEIGHTS),
    "stage3_allgather_sequential": Key("switch", WEIGHTS),
    "ignore_unused_parameters": Key("switch", SHARDED),
    "round_robin_gradients": Key("switch", FLAT),
    "parameter_alignment": Key("switch", FLAT),
    "zero_hpz_partition_size": Key("count", WEIGHTS),
    "zero_quantized_weights": Key("switch", WEIGHTS),
    "zero_quantized_nontrainable_weights": Key("switch", WEIGHTS),
    "zero_quantized_gradients": Key("switch", WEIGHTS),
    "memory_efficient_linear": Key("switch", WEIGHTS),
    "override_module_apply": Key("switch", WEIGHTS),
    "log_trace_cache_warnings": Key("switch", WEIGHTS),
    "enable_sanity_checks": Key("switch", WEIGHTS),
    "leaf_module": Key("mapping", WEIGHTS, below=LEAF_MODULE_KEYS),
}
"""Keys of `zero_optimization`, with the stages that read them."""

DEEPSPEED_OWNS: dict[str, Key] = {
    "zero_optimization": Key("mapping", below=ZERO_KEYS),
    "communication_data_type": Key("text", choices=COMMUNICATION_TYPES),
    "prescale_gradients": Key("switch"),
    "gradient_predivide_factor": Key("number"),
    "aio": Key(
        "mapping",
        below={
            "block_size": Key("count"),
            "queue_depth": Key("count"),
            "intra_op_parallelism": Key("count"),
            "single_submit": Key("switch"),
            "overlap_events": Key("switch"),
            "use_gds": Key("switch"),
        },
    ),
    "flops_profiler": Key(
        "mapping",
        below={
            "enabled": Key("switch"),
            "recompute_fwd_factor": Key("number"),
            "profile_step": Key("count"),
            "module_depth": Key("number"),
            "top_modules": Key("count"),
            "detailed": Key("switch"),
            "output_file": Key("text"),
        },
    ),
    "comms_logger": Key(
        "mapping",
        below={
            "enabled": Key("switch"),
            "prof_all": Key("switch"),
            "prof_ops": Key("words"),
            "verbose": Key("switch"),
            "debug": Key("switch"),
        },
    ),
    "wall_clock_breakdown": Key("switch"),
    "memory_breakdown": Key("switch"),
}
"""Keys of the JSON's first level that belong to DeepSpeed; any other is refused."""
