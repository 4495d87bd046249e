"""What a run that does not fit is told to try."""

import pytest
import torch

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.schema import RunConfig
from zhgpt.train.memory import is_out_of_memory, out_of_memory


def advice(**train: object) -> str:
    settings = {"steps": 1, "global_batch_size": 4, "micro_batch_size": 1, **train}
    config = RunConfig.model_validate({"data": {"train": "x"}, "train": settings})
    return str(out_of_memory(config, plan_batch(config, 1), "no room"))


@pytest.mark.parametrize(
    ("train", "tried"),
    [
        ({"micro_batch_size": 4}, "try train.micro_batch_size=2 "),
        ({}, "try train.activation_checkpointing=true or a higher ZeRO stage "),
        ({"activation_checkpointing": True, "recomputed_layers": 2}, "try train.recomputed_layers=null "),
        ({"activation_checkpointing": True}, "try a higher ZeRO stage "),
    ],
)
def test_the_next_thing_to_try_is_one_that_changes_something(train: dict[str, object], tried: str) -> None:
    assert tried in advice(**train)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"), True),
        (RuntimeError("NCCL error: unhandled cuda error\nLast error:\nCuda failure 'out of memory'"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_memory_can_run_out_outside_torchs_allocator(error: Exception, found: bool) -> None:
    assert is_out_of_memory(error) == found
