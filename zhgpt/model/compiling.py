"""``torch.compile`` of the decoder's blocks: whether it can run here, and when it is worth its minutes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import torch

from zhgpt.errors import SettingError


@dataclass(frozen=True)
class CompileChoice:
    """Whether blocks are compiled, and why.

    Attributes:
        blocks: whether the dense blocks of the decoder are compiled for training.
        reason: one sentence; empty where an explicit setting is simply followed.
        is_news: whether the console should say it; nobody expects compiled blocks on a CPU.
    """

    blocks: bool
    reason: str = ""
    is_news: bool = True


def choose_compile(
    requested: str,
    device_type: str,
    zero_stage: int,
    compiler_problem: Callable[[], str | None],
    *,
    dense_blocks: int = 1,
    kernels: str = "torch",
) -> CompileChoice:
    """What ``train.compile`` comes to on this machine.

    ``auto`` compiles on CUDA only. On a CPU it gains little, and the start costs up to minutes: in bf16, compiled blocks of a
    6-layer, 384-wide GPT-2 took 0.96 of the time of plain ones, those of a Qwen3 0.93 (docs/speed.md).

    Args:
        requested: ``train.compile``: off, auto or blocks.
        device_type: "cpu" or "cuda".
        zero_stage: stage 3 gathers weights in module hooks, which compiled blocks would not run.
        compiler_problem: why nothing can be compiled on any of the ranks, or None; asked only where the answer counts,
            because it compiles something (seconds).
        dense_blocks: how many blocks are no mixtures of experts; those stay as they are.
        kernels: ``train.kernels``.

    Raises:
        SettingError: ``blocks`` is asked for and cannot run.
    """
    if requested == "off":
        return CompileChoice(False)
    impossible = _impossible(zero_stage, dense_blocks, kernels)
    if requested == "auto":
        if device_type != "cuda":
            reason = "on a CPU that gains little and costs minutes at the start (train.compile=blocks does it)"
            return CompileChoice(False, f"blocks are not compiled: {reason}", is_news=False)
        problem = impossible or compiler_problem()
        if problem is not None:
            return CompileChoice(False, f"blocks are not compiled: {problem}")
        return CompileChoice(
            True, "blocks are compiled, which takes minutes once; the result is kept for the next start"
        )
    found = impossible or compiler_problem()
    if found is not None:
        raise SettingError(f"train.compile=blocks cannot run here: {found}. Use train.compile=auto or off.")
    return CompileChoice(True)


def _impossible(zero_stage: int, dense_blocks: int, kernels: str) -> str | None:
    """Why blocks of this run are not compiled anywhere, or None."""
    if zero_stage == 3:
        return "ZeRO stage 3 gathers weights block by block in hooks that a compiled block leaves out"
    if dense_blocks == 0:
        return "every block is a mixture of experts, where tokens go by what they are"
    if kernels != "torch":
        return f"train.kernels={kernels} gives wrong numbers in compiled blocks"
    return None


def compiler_problem(device: torch.device) -> str | None:
    """Why ``torch.compile`` does not work on this rank, or None: found by compiling one addition.

    Looking for a compiler is not enough: headers, a linker or a writable cache folder can be missing too.
    """
    import torch._dynamo  # seconds: imported only where something is to be compiled

    try:
        compiled = torch.compile(lambda x: x.sin() + 1.0, dynamic=False)
        compiled(torch.ones(8, device=device))
    except (
        torch._dynamo.exc.TorchDynamoException,
        RuntimeError,
        OSError,
        ImportError,
        subprocess.SubprocessError,
    ) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.rstrip().endswith(":")]
        return f"torch.compile fails on {device.type!r} ({lines[0] if lines else type(error).__name__})"
    return None
