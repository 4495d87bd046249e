"""Memory: the most a rank has held, what it looks like when it runs out, and what to try then."""

from pathlib import Path

import torch

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.schema import RunConfig
from zhgpt.errors import OutOfMemoryError


def peak_memory_bytes(device: torch.device) -> int | None:
    """Most memory that this rank has held so far: allocated on its GPU, or resident in the host where it trains on a CPU.

    The resident size counts the interpreter and its libraries. ``VmHWM`` and not ``ru_maxrss``, which a process inherits
    from the one that started it. None where the kernel does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",  # torch's allocator on a CPU
    "CUDA error: out of memory",  # cudaMalloc and cudaHostAlloc outside torch's allocator
    "Cuda failure 'out of memory'",  # NCCL
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: torch's own on a GPU; else a RuntimeError of who wanted the memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_WORDS)
    )


def out_of_memory(config: RunConfig, plan: BatchPlan, detail: str) -> OutOfMemoryError:
    """What to say when the run does not fit, with the next smaller micro batch that divides the global one."""
    size, ranks = plan.micro_batch_size, plan.data_parallel_size
    batches = [stage.global_batch_size for stage in plan.stages]
    fitting = [smaller for smaller in range(1, size) if all(batch % (smaller * ranks) == 0 for batch in batches)]
    advice = f"train.micro_batch_size={fitting[-1]}" if fitting else _other_advice(config)
    return OutOfMemoryError(
        f"out of memory with train.micro_batch_size={size} at data.sequence_length={config.data.sequence_length}: try {advice} "
        f"(the global batch stays the same). {detail.splitlines()[0][:200]}"
    )


def _other_advice(config: RunConfig) -> str:
    if not config.train.activation_checkpointing:
        return "train.activation_checkpointing=true or a higher ZeRO stage"
    return "a higher ZeRO stage" if config.train.recomputed_layers is None else "train.recomputed_layers=null"
