"""Loading: verified first, refused where it does not fit, then exactly what was saved."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zhgpt.checkpoint.layout import (
    ENGINE_TAG,
    StepFolder,
    find_checkpoint,
    list_complete,
    raise_problems,
    read_manifest,
    read_train_state,
    verify_files,
)
from zhgpt.checkpoint.regroup import load_regrouped
from zhgpt.checkpoint.state import TrainState, check_resumable
from zhgpt.distributed.process_group import Ranks
from zhgpt.errors import BadDataError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

OPTIMIZER_SETTINGS = (
    *("betas", "eps", "weight_decay", "peak_learning_rate", "rate_factor"),
    *("momentum", "nesterov", "newton_schulz_steps"),
)


def choose_checkpoint(checkpoints: Path, resume: str) -> StepFolder | None:
    """The checkpoint a start should go on from, or None for step 0.

    Args:
        checkpoints: the run's ``checkpoints`` folder.
        resume: ``auto`` (newest complete one, if any), ``never``, or the path of a checkpoint or a run.

    Raises:
        MissingInputError, BadDataError: a path was given and no complete checkpoint is there.
    """
    if resume == "never":
        return None
    if resume == "auto":
        complete = list_complete(checkpoints)
        return complete[-1] if complete else None
    return find_checkpoint(Path(resume))


def check_checkpoint(
    folder: StepFolder, present: TrainState, ranks: Ranks, *, to_branch: bool = False
) -> dict[str, Any]:
    """Verifies every file (shared out over the ranks) and that this run may go on from it, or begin as a branch of it.

    Returns:
        The saved ``train_state.json``.

    Raises:
        BadDataError: damaged, on every rank. SettingError: does not fit this run.
    """
    files = read_manifest(folder.path)
    problems = ranks.gather(verify_files(folder.path, files, ranks.rank, ranks.world_size))
    raise_problems(folder.path, [sentence for part in problems for sentence in part])
    saved = read_train_state(folder.path)
    check_resumable(saved, present, str(folder.path), to_branch=to_branch)
    return saved


def load_checkpoint(engine: "DeepSpeedEngine", folder: StepFolder, ep_size: int) -> None:
    """Puts weights and optimizer state of a verified checkpoint into the engine; settings stay those of this start.

    DeepSpeed restores betas, eps, weight decay, momentum and (ZeRO 1-2) the clipping bound with the state. A user who
    changes one of them and resumes means the new value, so they are put back. What was saved at another ``ep_size``
    DeepSpeed cannot load: :mod:`zhgpt.checkpoint.regroup` does.

    Args:
        engine: fresh from ``deepspeed.initialize``.
        folder: verified by :func:`check_checkpoint`.
        ep_size: of the engine.

    Raises:
        BadDataError: there is nothing to load, or not all.
        SettingError: it cannot be loaded at this ``ep_size``.
    """
    settings = [
        {name: group[name] for name in OPTIMIZER_SETTINGS if name in group} for group in engine.optimizer.param_groups
    ]
    clipping = getattr(engine.optimizer, "clip_grad", None)
    saved = read_train_state(folder.path)
    if saved.get("ep_size", 1) == ep_size:
        _load_as_saved(engine, folder)
    else:
        load_regrouped(engine, folder.path, saved, ep_size)
    for group, values in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(values)
    if clipping is not None:
        engine.optimizer.clip_grad = clipping


def _load_as_saved(engine: "DeepSpeedEngine", folder: StepFolder) -> None:
    loaded, _ = engine.load_checkpoint(
        str(folder.path), tag=ENGINE_TAG, load_lr_scheduler_states=False, load_module_strict=True
    )
    if loaded is None:  # DeepSpeed only warns and goes on with random weights
        raise BadDataError(f"{folder.path}: DeepSpeed loaded nothing from {ENGINE_TAG}/; use an older checkpoint")
