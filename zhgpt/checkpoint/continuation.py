"""Whether a run may go on from a checkpoint as far as its batches, its schedule and its being a branch are concerned."""

from typing import Any

from zhgpt.errors import SettingError

STABLE_SCHEDULES = ("wsd", "constant")
"""Schedules whose rate stays at the peak between warm-up and decay."""


def batch_differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs in how the steps before the checkpoint were cut; empty: the place in the data is the same.

    Which samples a step consumes is a closed form of the stages that begin before it, so a run goes on exactly when those
    before the checkpoint are the same, whatever follows.

    Args:
        saved: ``train_state.json`` of the checkpoint; one from before there were stages has ``global_batch_size`` alone.
        now: the present run's.
    """
    before, after = _past(saved, saved["step"]), _past(now, saved["step"])
    if before == after:
        return []
    return [
        f"the batches of the {saved['step']} steps before the checkpoint are {_words(after)} but were saved as "
        f"{_words(before)} (the position in the data is counted in them: keep train.global_batch_size, train.batch_ramp and "
        "data.sequence_length_warmup up to there; another batch may begin at the checkpoint's step, as a stage of the ramp)"
    ]


def branch_differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is wrong where one of the two is a branch that the other is not."""
    was, is_now = _branch_step(saved), _branch_step(now)
    if was == is_now:
        return []
    return [
        f"this run is {_branch_words(is_now)} but the checkpoint is of {_branch_words(was)} (keep train.branch_from as it was; "
        "--resume goes on with a run, train.branch_from begins a new one)"
    ]


def check_branchable(saved: dict[str, Any], now: dict[str, Any], place: str) -> None:
    """Refuses to cool down what is not at its stable rate.

    Args:
        saved: ``train_state.json`` of the checkpoint.
        now: the branch's.
        place: the checkpoint, for the message.

    Raises:
        SettingError: the checkpoint is of a schedule without a stable phase, of its warm-up, or of its decay; or the
            branch would start at another rate.
    """
    schedule = saved.get("schedule") or {}
    if not schedule:
        raise SettingError(
            f"{place} does not say which schedule it was trained with (it was saved before checkpoints did); go on with its run "
            "to a newer checkpoint and branch from that"
        )
    step, stable = saved["step"], schedule["stable_steps"]
    if schedule["name"] not in STABLE_SCHEDULES:
        raise SettingError(
            f"{place} is of a run with schedule {schedule['name']}, whose rate changes from the warm-up on: there is no stable "
            "rate to branch from. Train with schedule.name=wsd"
        )
    if stable is not None and step > stable:
        raise SettingError(
            f"{place} has decayed already: its run's rate falls from step {stable} on, and this is after {step} steps. Branch "
            f"from a checkpoint of at most {stable} steps; the one of {stable} is kept for this"
        )
    if step < schedule["warmup_steps"]:
        raise SettingError(
            f"{place} is inside its run's warm-up of {schedule['warmup_steps']} steps: its rate is not the stable one yet. Take "
            "a later checkpoint"
        )
    rate = now["schedule"]["learning_rate"]
    if rate != schedule["learning_rate"]:
        raise SettingError(
            f"{place} was trained at a stable learning rate of {schedule['learning_rate']:g}, and this branch would start at "
            f"{rate:g}: set optim.learning_rate={schedule['learning_rate']:g}, a branch only decays"
        )


def _past(state: dict[str, Any], step: int) -> list[list[int]]:
    whole = [[0, state["global_batch_size"], state["sequence_length"]]]
    return [list(stage) for stage in state.get("batch_stages") or whole if stage[0] < max(1, step)]


def _words(stages: list[list[int]]) -> str:
    return ", ".join(f"{size} sequences in rows of {length} from step {first}" for first, size, length in stages)


def _branch_step(state: dict[str, Any]) -> int | None:
    branch = state.get("branch")
    return None if branch is None else int(branch["step"])


def _branch_words(step: int | None) -> str:
    return "no branch" if step is None else f"a branch from step {step}"
