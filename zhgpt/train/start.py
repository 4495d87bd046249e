"""Where a run begins: from nothing, from its own checkpoint, or as a branch of another run's."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from zhgpt.checkpoint.layout import PROBE, StepFolder, find_checkpoint, manifest_hash
from zhgpt.checkpoint.load import check_checkpoint, choose_checkpoint
from zhgpt.checkpoint.state import TrainState
from zhgpt.config.schema import RunConfig
from zhgpt.distributed.environment import read_slurm_job
from zhgpt.distributed.process_group import Ranks
from zhgpt.errors import BadDataError
from zhgpt.train.resume import Resume, resume_of_start
from zhgpt.train.run_folder import RunFolder
from zhgpt.train.text_samples import TextSampler

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

LARGEST_DIFFERENCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 5e-2}
"""Logits of a branch's first forward pass against those saved with its checkpoint, as a share of the largest logit."""


@dataclass(frozen=True)
class Start:
    """Where this start goes on.

    Attributes:
        resume: what ``--resume`` means for it.
        checkpoint: what is loaded; None: drawn (or given) weights at step 0.
        saved: the checkpoint's ``train_state.json``.
        state: of this run, at the first step to do.
        is_branching: whether the checkpoint is another run's, and this run's first step comes after it.
    """

    resume: Resume
    checkpoint: StepFolder | None
    saved: dict[str, Any] | None
    state: TrainState
    is_branching: bool = False


def choose_start(asked: str, config: RunConfig, folder: RunFolder, ranks: Ranks, state: TrainState) -> Start:
    """Chooses and verifies the checkpoint to go on from; reached by all ranks.

    A branch that has saved checkpoints of its own goes on from those.

    Args:
        asked: ``--resume``.
        config: the run's settings.
        folder: the run's.
        ranks: all of them.
        state: identity of the run at step 0.

    Raises:
        SettingError, MissingInputError, BadDataError: there is nothing to go on from, it is damaged, or does not fit.
    """
    resume = ranks.decided_by_first(lambda: resume_of_start(folder, asked, read_slurm_job()))
    checkpoint = ranks.decided_by_first(lambda: choose_checkpoint(folder.checkpoints, resume.mode))
    if checkpoint is not None:
        saved = check_checkpoint(checkpoint, state, ranks)
        at = replace(position(state, saved), branch=saved.get("branch"))
        return Start(resume, checkpoint, saved, at)
    branch_from = config.train.branch_from
    if branch_from is None:
        return Start(resume, None, None, state)
    checkpoint = ranks.decided_by_first(lambda: find_checkpoint(branch_from))
    saved = check_checkpoint(checkpoint, state, ranks, to_branch=True)
    branch = {
        "from": str(branch_from.resolve()),
        "step": saved["step"],
        "consumed_samples": saved["consumed_samples"],
        "manifest_xxh3_128": manifest_hash(checkpoint.path),
    }
    return Start(resume, checkpoint, saved, replace(position(state, saved), branch=branch), is_branching=True)


def position(state: TrainState, saved: dict[str, Any]) -> TrainState:
    """The run's identity at the step of a checkpoint, with the data position that spikes have moved."""
    return replace(
        state,
        step=saved["step"],
        consumed_samples=saved["consumed_samples"],
        spikes=saved.get("spikes", {}),
    )


def prove_continuation(
    engine: "DeepSpeedEngine", sampler: TextSampler, checkpoint: StepFolder, precision: str
) -> float:
    """Compares the loaded engine's logits with those that were saved beside the checkpoint; reached by all ranks.

    Returns:
        The largest difference.

    Raises:
        BadDataError: it is too large to be the same weights.
    """
    probe = load_file(checkpoint.path / PROBE)
    engine.eval()
    with torch.no_grad():
        logits = sampler.logits(engine, probe["tokens"])
    engine.train()
    return compare_logits(probe["logits"], logits, precision, str(checkpoint.path))


def compare_logits(saved: torch.Tensor, now: torch.Tensor, precision: str, place: str) -> float:
    """The largest difference of two sets of logits (1, S, vocab_size), refused where it is no rounding."""
    difference, largest = float((now - saved).abs().max()), float(saved.abs().max())
    if not difference <= LARGEST_DIFFERENCE[precision] * largest:
        raise BadDataError(
            f"{place}: the loaded model's logits differ by {difference:.3g} from those saved with the checkpoint (largest "
            f"{largest:.3g}), so these are not the weights it was saved with; take another checkpoint"
        )
    return difference


def start_notices(start: Start, set_aside: list[str] | None) -> list[str]:
    """What the user should know about going on from this checkpoint."""
    saved, state = start.saved, start.state
    notices = [start.resume.notice] if start.resume.notice is not None else []
    if saved is None:
        return notices
    if saved["micro_batch_size"] != state.micro_batch_size:
        notices.append(
            f"train.micro_batch_size is {state.micro_batch_size} but was {saved['micro_batch_size']}: same samples, but sums are "
            "taken in another order, so the run goes on closely and not bit for bit"
        )
    if saved.get("ep_size", 1) != state.ep_size:
        notices.append(
            f"train.ep_size is {state.ep_size} but was {saved.get('ep_size', 1)}: experts and their optimizer state move to the "
            "ranks that now hold them; sums are taken in another order, so the run goes on closely and not bit for bit"
        )
    rate, peak = (saved.get("schedule") or {}).get("learning_rate"), state.schedule.get("learning_rate")
    if rate is not None and rate != peak:
        notices.append(f"optim.learning_rate is {peak:g} but was {rate:g}: the run goes on at the new rate")
    if set_aside:
        notices.append(
            f"{', '.join(set_aside)}: of later steps than {state.step}, where this run goes on; moved to checkpoints/set_aside/"
        )
    return notices
