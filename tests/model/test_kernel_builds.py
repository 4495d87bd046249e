"""The Triton kernels that train.kernels=liger launches, compiled to machine code for GPUs that are not here.

A recipe's model runs forward and backward on the meta device, where tensors have shapes and strides but no values; Triton is
told of a GPU to compile for, and a launch ends when its kernel is compiled. So kernels, sizes, constants and warps are those
that Liger-Kernel chooses. One number differs: without a GPU it counts one multiprocessor, so that a program of the norm's
backward pass has all rows; that number is no constant of the kernel. Whether they compute the right thing only a GPU says.
"""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from zhgpt.config.loading import load_run_config, resolve_model
from zhgpt.model.fused_kernels import use_kernels
from zhgpt.model.transformer import CausalLM

CONFIGS = Path(__file__).parents[2] / "configs"

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="needs Triton, which a CPU build of torch comes without: make test-kernels",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("liger_kernel") is None,
        reason="liger-kernel's Python files are not installed (make venv-dev)",
    ),
]


KERNELS = {
    "_rms_norm_forward_kernel",
    "_rms_norm_backward_kernel",
    # Of rows of up to 256 values, where there are 32,768 or more: queries and keys of a head.
    "_block_rms_norm_forward_kernel",
    "_block_rms_norm_backward_kernel",
    "_swiglu_forward_kernel",
    "_swiglu_backward_kernel",
}
SPILLED_BYTES_ALLOWED = 8
"""Of a thread: what ptxas 12.8 (Triton 3.7.1) moves from registers to memory in one kernel for sm_90, in most builds."""


class AbsentGPU:
    """What Triton asks its driver for before it compiles (triton/runtime/jit.py); it asks for more only to launch."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        """A number that no other has: Triton keeps by device what it has compiled."""
        return id(self)

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


@pytest.fixture(params=[80, 89, 90], ids=["sm_80", "sm_89", "sm_90"])
def launched(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fills with the kernels that are launched, each compiled for GPUs of this compute capability."""
    import triton
    from triton.runtime.jit import JITFunction

    kernels: list[Any] = []
    compile_or_launch = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        kernels.append(compile_or_launch(self, *args, grid=grid, warmup=True, **settings))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DUMP_PTXAS_LOG", "1")
    monkeypatch.setattr(triton.runtime.driver, "_active", AbsentGPU(request.param))
    monkeypatch.setattr(JITFunction, "run", compile_only)
    return kernels


@pytest.mark.parametrize("name", ["qwen3_124m", "qwen3_1b3"])
def test_every_kernel_of_a_recipe_compiles(name: str, launched: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    config = load_run_config(CONFIGS / f"{name}.yaml", ["model.num_hidden_layers=1"])
    with torch.device("meta"):
        module = CausalLM(resolve_model(config, 32_000), "sdpa").bfloat16()
        tokens = torch.zeros(config.train.micro_batch_size, config.data.sequence_length, dtype=torch.int64)
    use_kernels(module, "liger", "cuda")
    module(tokens, tokens).backward()
    assert {kernel.name for kernel in launched} == KERNELS
    assert all(kernel.asm["cubin"].startswith(b"\x7fELF") for kernel in launched)
    spilled = [int(found) for found in re.findall(r"(\d+) bytes spill stores", capsys.readouterr().out)]
    assert len(spilled) == len(KERNELS)
    assert max(spilled) <= SPILLED_BYTES_ALLOWED
