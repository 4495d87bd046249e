"""Going back to the newest checkpoint after a spike, and on from there with other samples."""

from zhgpt.checkpoint.layout import list_complete
from zhgpt.checkpoint.load import check_checkpoint, load_checkpoint
from zhgpt.errors import DivergedError
from zhgpt.train.routing import forget_routing
from zhgpt.train.spike_guard import MOST_ROLLBACKS, SpikeState
from zhgpt.train.training import Training


def roll_back_if_wanted(training: Training) -> int | None:
    """Where the spike policy wants it: loads the newest checkpoint into the running engine; reached by all ranks.

    The samples from the checkpoint's position to the end of the step that spiked are passed over: each later step reads that
    much further on. Nothing of this needs a file of its own. A run that is killed before its next checkpoint resumes at the
    same one, meets the same spike, and goes back in the same way.

    Returns:
        Steps done now; None where nothing was wanted, or there is no checkpoint (the update was left out then).

    Raises:
        DivergedError: the run has been back at this checkpoint too often.
        BadDataError: the checkpoint is damaged.
    """
    guard = training.spikes
    spike, guard.roll_back_wanted = guard.roll_back_wanted, None
    if spike is None:
        return None
    found = training.ranks.decided_by_first(lambda: list_complete(training.folder.checkpoints)[-1:])
    if not found:
        training.outputs.notice(
            f"step {spike.step + 1}: no checkpoint to go back to yet; the update was left out instead",
            "spike_no_checkpoint",
        )
        return None
    (checkpoint,) = found
    if guard.state.rollbacks == MOST_ROLLBACKS:
        raise DivergedError(
            f"step {spike.step + 1}: a spike ({spike.reason}) after going back to {checkpoint.path} {MOST_ROLLBACKS} times: "
            "other samples do not help. Lower optim.learning_rate, or resume from an older checkpoint with --resume PATH"
        )
    training.engine.train()
    saved = check_checkpoint(checkpoint, training.state, training.ranks)
    load_checkpoint(training.engine, checkpoint, training.state.ep_size)
    plan = training.plan
    passed_over = plan.samples_before(spike.step + 1) - plan.samples_before(checkpoint.step)
    state = SpikeState.from_json(saved.get("spikes", {}))
    state.skipped_samples = guard.state.skipped_samples + passed_over
    state.rollbacks = guard.state.rollbacks + 1
    guard.state = state
    training.loader.restart(checkpoint.step, state.skipped_samples)
    training.outputs.go_back(checkpoint.step, spike, passed_over, state.skipped_samples)
    training.lap.clear()
    forget_routing(training.engine.module)
    training.clock.go_back(training.engine.skipped_steps, training.loader.waited_seconds)
    training.times.forget()
    return checkpoint.step
