"""The fp32 weights of a checkpoint in one dictionary, whatever its ZeRO stage; needs no process group."""

import io
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from zhgpt.checkpoint.fragments import MODEL_STATES, read_saved_state
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
from zhgpt.config.model_shape import fill_options
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, MissingInputError
from zhgpt.model.moe.names import canonical_parts


@dataclass(frozen=True)
class Consolidated:
    """Weights and all that is needed to use or check them."""

    state_dict: dict[str, torch.Tensor]
    """Canonical name -> fp32 tensor on the CPU; a mixture's experts one by one (:mod:`zhgpt.model.moe.names`)."""
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
    return fill_options(ModelSection(**read_train_state(folder)["model"]))


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
        weights = read_weights(folder.path, state)
    return Consolidated(
        state_dict=weights,
        model=fill_options(ModelSection(**state["model"])),
        tokenizer_dir=tokenizer_dir,
        probe_tokens=probe["tokens"],
        probe_logits=probe["logits"],
        precision=state["precision"],
        step=folder.step,
        path=folder.path,
    )


def read_weights(folder: Path, state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """fp32 weights and selection biases by canonical name.

    Args:
        folder: of a verified checkpoint.
        state: its ``train_state.json``.

    Raises:
        BadDataError: something is missing, or the fp32 weights are not those of the model.
    """
    if state["zero_stage"] == 3:
        return _partitioned_weights(folder)
    saved = read_saved_state(folder, state)
    weights = {name: parameter.weight.read() for name, parameter in saved.parameters.items()}
    for name, tensor in weights.items():
        # The model's own weights beside them must be the rounded ones: otherwise a slice was taken for another.
        if name not in saved.module or not torch.equal(tensor.to(saved.module[name].dtype), saved.module[name]):
            raise BadDataError(
                f"{folder}: the fp32 weights of {name} are not those that the model ran with; use another step"
            )
    return weights | {name: tensor.float() for name, tensor in saved.buffers.items()}


def _partitioned_weights(folder: Path) -> dict[str, torch.Tensor]:
    """ZeRO-3: DeepSpeed's own converter, and the selection biases, which it does not know."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=ENGINE_TAG)
    found = {name: tensor.detach().clone().float() for name, tensor in weights.items()}
    path = folder / ENGINE_TAG / f"zero_pp_rank_0_{MODEL_STATES}"
    module = torch.load(path, map_location="cpu", mmap=True, weights_only=False)["module"]
    found |= {name: tensor.float() for name, tensor in module.items() if name.endswith("e_score_correction_bias")}
    return {canonical: part for name, tensor in found.items() for canonical, part in canonical_parts(name, tensor)}
