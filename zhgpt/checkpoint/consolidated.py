"""The fp32 weights of a checkpoint in one dictionary, whatever its ZeRO stage; needs no process group."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from zhgpt.checkpoint.layout import (
    ENGINE_TAG,
    PROBE,
    TRAIN_STATE,
    find_checkpoint,
    raise_problems,
    read_manifest,
    read_train_state,
    verify_checkpoint,
    verify_files,
)
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, MissingInputError


@dataclass(frozen=True)
class Consolidated:
    """Weights and all that is needed to use or check them."""

    state_dict: dict[str, torch.Tensor]
    """Parameter name -> fp32 tensor on the CPU, as the model class names them."""
    model: ModelSection
    """Resolved."""
    tokenizer_dir: Path
    probe_tokens: torch.Tensor
    """(B, S) int64."""
    probe_logits: torch.Tensor
    """(B, S, vocab_size) fp32, computed by the engine when it saved."""
    precision: str
    step: int
    path: Path


def saved_model(path: Path) -> ModelSection:
    """The resolved model section of a checkpoint, read alone: seconds before its weights.

    Args:
        path: as for :func:`load_consolidated`.

    Raises:
        MissingInputError: no such folder. BadDataError: nothing complete, or damaged.
    """
    folder = find_checkpoint(Path(path)).path
    files = read_manifest(folder)
    raise_problems(folder, verify_files(folder, {TRAIN_STATE: files[TRAIN_STATE]}))
    return ModelSection(**read_train_state(folder)["model"])


def load_consolidated(path: Path) -> Consolidated:
    """Reads a checkpoint.

    Args:
        path: a step folder, or a run's folder (its newest complete checkpoint).

    Raises:
        MissingInputError: no such folder, or the run's tokenizer copy is gone. BadDataError: nothing complete, or damaged.
    """
    folder = find_checkpoint(Path(path))
    verify_checkpoint(folder.path)  # before anything is unpickled
    state = read_train_state(folder.path)
    tokenizer_dir = folder.path.parent.parent / "tokenizer"
    if not tokenizer_dir.is_dir():
        raise MissingInputError(
            f"{tokenizer_dir}: the run's copy of its tokenizer is missing; copy it back from the dataset's"
        )
    probe = load_file(str(folder.path / PROBE))
    # DeepSpeed and its import print to stdout, where `zhgpt generate` writes its text.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        weights = _unpartitioned(folder.path) if state["zero_stage"] == 0 else _partitioned(folder.path)
    return Consolidated(
        state_dict=weights,
        model=ModelSection(**state["model"]),
        tokenizer_dir=tokenizer_dir,
        probe_tokens=probe["tokens"],
        probe_logits=probe["logits"],
        precision=state["precision"],
        step=folder.step,
        path=folder.path,
    )


def _unpartitioned(folder: Path) -> dict[str, torch.Tensor]:
    """ZeRO-0: every rank has all weights; DeepSpeed's own converter does not know this stage."""
    path = folder / ENGINE_TAG / "mp_rank_00_model_states.pt"
    if not path.is_file():
        raise BadDataError(f"{path}: missing from a ZeRO-0 checkpoint")
    states = torch.load(path, map_location="cpu", weights_only=False)  # our own file, its hash verified above
    return {name: tensor.float() for name, tensor in states["module"].items()}


def _partitioned(folder: Path) -> dict[str, torch.Tensor]:
    shards = sorted((folder / ENGINE_TAG).glob("bf16_zero_pp_rank_*_optim_states.pt"), key=_rank)
    if shards and "zero_stage" not in _optimizer_state(shards[0]):
        return _from_bf16_optimizer(folder, shards)
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=ENGINE_TAG)
    return {name: tensor.detach().clone().float() for name, tensor in weights.items()}


def _from_bf16_optimizer(folder: Path, shards: list[Path]) -> dict[str, torch.Tensor]:
    """ZeRO-1 with bf16 weights and fp32 accumulation: DeepSpeed takes its BF16_Optimizer, which zero_to_fp32 refuses.

    Each parameter group is one flat fp32 vector, its parameters one after another, cut evenly over the ranks
    (deepspeed/runtime/bf16_optimizer.py). The bf16 weights beside them must be its rounded values.
    """
    path = folder / ENGINE_TAG / "mp_rank_00_model_states.pt"
    if not path.is_file():
        raise BadDataError(f"{path}: missing from the checkpoint")
    model = torch.load(path, map_location="cpu", weights_only=False)  # our own file, its hash verified above
    states = [_optimizer_state(shard) for shard in shards]
    weights: dict[str, torch.Tensor] = {}
    for group, shapes in enumerate(model["param_shapes"]):
        flat = torch.cat([state["single_partition_of_fp32_groups"][group] for state in states])
        place = 0
        for name, shape in shapes.items():
            weights[name] = flat[place : place + shape.numel()].view(shape).clone()
            place += shape.numel()
    for name, tensor in weights.items():
        if not torch.equal(tensor.to(torch.bfloat16), model["module"][name]):
            raise BadDataError(
                f"{folder}: the fp32 weights of {name} are not those of its bf16 weights; use another step"
            )
    return weights


def _optimizer_state(shard: Path) -> dict[str, Any]:
    # mmap: the moments beside the weights are never read.
    state: dict[str, Any] = torch.load(shard, map_location="cpu", mmap=True, weights_only=False)["optimizer_state_dict"]
    return state


def _rank(shard: Path) -> int:
    return int(shard.name.removeprefix("bf16_zero_pp_rank_").split("_")[0])
