"""The fp32 weights of a checkpoint in one dictionary, whatever its ZeRO stage; needs no process group."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from zhgpt.checkpoint.layout import ENGINE_TAG, PROBE, find_checkpoint, read_train_state, verify_checkpoint
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
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=ENGINE_TAG)
    return {name: tensor.detach().clone().float() for name, tensor in weights.items()}
