"""Saving: written aside, hashed, committed only when every rank has succeeded."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from megatron_style_data.atomic import atomic_write_json, fsync_folder
from zhgpt.checkpoint.fragments import PARAMETER_NAMES
from zhgpt.checkpoint.layout import (
    COMPLETE,
    DELETING_SUFFIX,
    ENGINE_TAG,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    PROBE,
    SAVING_SUFFIX,
    SET_ASIDE,
    TRAIN_STATE,
    file_hash,
    list_complete,
    step_folder_name,
)
from zhgpt.checkpoint.state import TrainState
from zhgpt.distributed.process_group import Ranks
from zhgpt.errors import StorageError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def save_checkpoint(
    engine: "DeepSpeedEngine",
    checkpoints: Path,
    state: TrainState,
    probe: dict[str, torch.Tensor],
    ranks: Ranks,
    keep_last: int,
    keep_step: int | None = None,
) -> Path:
    """Saves one checkpoint; reached by all ranks.

    Args:
        engine: DeepSpeed's engine, between two steps.
        checkpoints: the run's ``checkpoints`` folder, on a file system that all hosts share.
        state: what :func:`zhgpt.checkpoint.state.check_resumable` will compare.
        probe: ``tokens`` (B, S) int64 and ``logits`` (B, S, vocab_size) fp32 of this engine, for checking exports.
        ranks: all ranks.
        keep_last: complete checkpoints to keep; older ones are deleted after this one is committed.
        keep_step: the step of one that is kept however old it is.

    Returns:
        The committed folder.

    Raises:
        StorageError: a rank could not write. Raised on every rank; what was complete before is untouched.
    """
    final = checkpoints / step_folder_name(state.step)
    saving = final.with_name(final.name + SAVING_SUFFIX)
    _together(ranks, "prepare", saving, lambda: _prepare(saving) if ranks.is_first else None)
    _together(ranks, "write", saving, lambda: _write_shards(engine, saving))
    names = _together(ranks, "list", saving, lambda: _file_names(saving))[0]  # rank 0's view, not one view a host
    hashes = _together(ranks, "hash", saving, lambda: _hash_and_sync(saving, names[ranks.rank :: ranks.world_size]))
    files = {name: entry for part in hashes for name, entry in part.items()}
    _together(ranks, "commit", saving, lambda: _commit(saving, final, files, state, probe) if ranks.is_first else None)
    if ranks.is_first:
        delete_old(checkpoints, keep_last, keep_step)
    return final


def _together(ranks: Ranks, action: str, place: Path, work: Any) -> list[Any]:
    """Runs ``work`` on every rank, then tells all of them whether all succeeded."""
    result: Any = None
    problem = ""
    try:
        result = work()
    except torch.OutOfMemoryError:
        raise
    except (OSError, StorageError, SafetensorError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        problem = f"rank {ranks.rank} on {ranks.host_names[ranks.rank]}: {error}"
    outcomes = ranks.gather((problem, result))
    problems = [outcome[0] for outcome in outcomes if outcome[0]]
    if problems:
        raise StorageError(
            f"{place}: could not {action} the checkpoint: {'; '.join(problems)}; free space or mend the file system and "
            "resume from the last complete checkpoint"
        )
    return [outcome[1] for outcome in outcomes]


def _prepare(saving: Path) -> None:
    shutil.rmtree(saving, ignore_errors=True)
    saving.mkdir(parents=True)


def _write_shards(engine: "DeepSpeedEngine", saving: Path) -> None:
    """DeepSpeed's save, with a failed write remembered and raised after it.

    ``save_checkpoint`` ends in a barrier of its own: a rank that raised before it would leave the others waiting there.
    """
    problems: list[BaseException] = []
    writer = engine.checkpoint_engine
    write = writer.save

    def remember(*args: Any, **kwargs: Any) -> Any:
        try:
            return write(*args, **kwargs)
        except (OSError, RuntimeError) as error:
            problems.append(error)
            return None

    writer.save = remember
    try:
        engine.save_checkpoint(str(saving), tag=ENGINE_TAG, client_state=_parameter_names(engine), save_latest=False)
    finally:
        writer.save = write
    if problems:
        raise problems[0]


def _parameter_names(engine: "DeepSpeedEngine") -> dict[str, Any]:
    """At ZeRO-0 name and shape of the optimizer's parameters in its order; the other stages say it themselves."""
    if not isinstance(engine.optimizer, torch.optim.Optimizer):
        return {}
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    parameters = [parameter for group in engine.optimizer.param_groups for parameter in group["params"]]
    return {PARAMETER_NAMES: [(names[parameter], tuple(parameter.shape)) for parameter in parameters]}


def _file_names(saving: Path) -> list[str]:
    return sorted(str(path.relative_to(saving)) for path in saving.rglob("*") if path.is_file())


def _hash_and_sync(saving: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Hashes and fsyncs this rank's share of the files; DeepSpeed's own save has ended on all ranks by now."""
    return {name: _durable_entry(saving / name) for name in names}


def _durable_entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    return {"bytes": path.stat().st_size, "xxh3_128": file_hash(path)}


def _commit(
    saving: Path, final: Path, files: dict[str, dict[str, Any]], state: TrainState, probe: dict[str, torch.Tensor]
) -> None:
    atomic_write_json(saving / TRAIN_STATE, state.to_json())
    save_file({name: tensor.contiguous() for name, tensor in probe.items()}, str(saving / PROBE))
    for name in (TRAIN_STATE, PROBE):
        files[name] = _durable_entry(saving / name)
    atomic_write_json(
        saving / MANIFEST, {"format": FORMAT, "version": FORMAT_VERSION, "files": dict(sorted(files.items()))}
    )
    complete = {"step": state.step, "manifest_xxh3_128": file_hash(saving / MANIFEST)}
    atomic_write_json(saving / COMPLETE, complete)
    for folder in (saving / ENGINE_TAG, saving):
        fsync_folder(folder)
    assert not final.exists(), f"{final} exists, though later steps are set aside at the start"
    saving.rename(final)
    fsync_folder(final.parent)


def _delete(folder: Path) -> None:
    """Renames first, so that a half-deleted checkpoint never looks complete."""
    doomed = folder.with_name(folder.name + DELETING_SUFFIX)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)  # what a busy file system keeps is swept by the next deletion


def prepare_folder(checkpoints: Path, resumed_step: int, keep_last: int, keep_step: int | None = None) -> list[str]:
    """Makes ``checkpoints`` ready for a run that goes on after ``resumed_step``; rank 0 alone, before the first step.

    Half-written checkpoints are cleared. Complete ones of later steps belong to a future that this run will write anew:
    they move to ``checkpoints/set_aside/``, so that no later start mistakes them for this run's.

    Returns:
        The names of the checkpoints that were set aside.
    """
    for leftover in checkpoints.glob(f"step-*{SAVING_SUFFIX}"):
        shutil.rmtree(leftover)
    moved = []
    for later in list_complete(checkpoints):
        if later.step > resumed_step:
            aside = checkpoints / SET_ASIDE / later.path.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            later.path.rename(aside)
            moved.append(later.path.name)
    delete_old(checkpoints, keep_last, keep_step)
    return moved


def delete_old(checkpoints: Path, keep_last: int, keep_step: int | None = None) -> None:
    """Deletes all but the newest ``keep_last`` complete checkpoints and that of ``keep_step``, and what an interrupted
    deletion left."""
    for leftover in checkpoints.glob(f"step-*{DELETING_SUFFIX}"):
        shutil.rmtree(leftover, ignore_errors=True)
    for old in list_complete(checkpoints)[: -max(1, keep_last)]:
        if old.step != keep_step:
            _delete(old.path)
