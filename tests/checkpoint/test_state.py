"""What must be the same to go on, and how a difference is said."""

from dataclasses import replace

import pytest

from zhgpt.checkpoint.state import MUST_MATCH, TrainState, check_resumable
from zhgpt.errors import SettingError

STATE = TrainState(
    step=100,
    consumed_samples=1600,
    world_size=2,
    ep_size=1,
    zero_stage=1,
    precision="bf16",
    global_batch_size=16,
    micro_batch_size=4,
    sequence_length=256,
    seed=1,
    model={"hidden_size": 64, "num_hidden_layers": 2},
    dataset={"fingerprint": "a", "tokens": 10},
    optimizer="adamw",
    deepspeed_version="0.19.8",
)


def test_the_same_run_goes_on_whatever_its_step() -> None:
    check_resumable(STATE.to_json(), replace(STATE, step=0, consumed_samples=0, deepspeed_version="0.20"), "step-1")


def test_another_world_size_is_refused_naming_both() -> None:
    with pytest.raises(SettingError, match="step-1 cannot be resumed by this run: world_size is 4 but was saved as 2"):
        check_resumable(STATE.to_json(), replace(STATE, world_size=4), "step-1")


def test_another_zero_stage_is_refused_naming_both() -> None:
    with pytest.raises(SettingError, match="zero_stage is 3 but was saved as 1"):
        check_resumable(STATE.to_json(), replace(STATE, zero_stage=3), "step-1")


def test_a_difference_inside_the_model_is_named_by_its_key() -> None:
    changed = replace(STATE, model={**STATE.model, "hidden_size": 128})
    with pytest.raises(SettingError, match=r"model\.hidden_size is 128 but was saved as 64"):
        check_resumable(STATE.to_json(), changed, "step-1")


def test_a_model_saved_before_there_were_options_goes_on_without_them_and_not_with_one() -> None:
    options = {"position_embedding": "rope", "use_qk_norm": True, "residual_init": "scaled", "embedding_norm": False}
    now = {**STATE.model, "model_type": "qwen3", **options}
    saved = replace(STATE, model={**STATE.model, "model_type": "qwen3"}).to_json()
    check_resumable(saved, replace(STATE, model=now), "step-1")
    with pytest.raises(SettingError, match=r"model\.embedding_norm is True but was saved as False"):
        check_resumable(saved, replace(STATE, model={**now, "embedding_norm": True}), "step-1")


@pytest.mark.parametrize("key", [key for key in MUST_MATCH if key not in ("model", "dataset")])
def test_every_value_that_must_match_is_compared(key: str) -> None:
    value = getattr(STATE, key)
    changed = replace(STATE, **{key: value + 1 if isinstance(value, int) else f"{value}x"})
    with pytest.raises(SettingError, match=f"{key} is"):
        check_resumable(STATE.to_json(), changed, "step-1")


def test_another_batch_before_the_checkpoint_is_refused_and_one_from_it_on_is_not() -> None:
    with pytest.raises(SettingError, match="are 8 sequences in rows of 256 from step 0 but were saved as 16 sequences"):
        check_resumable(STATE.to_json(), replace(STATE, global_batch_size=8), "step-1")
    later = replace(STATE, global_batch_size=32, batch_stages=[[0, 16, 256], [100, 32, 256]])
    check_resumable(STATE.to_json(), later, "step-1")
    sooner = replace(STATE, global_batch_size=32, batch_stages=[[0, 16, 256], [99, 32, 256]])
    with pytest.raises(
        SettingError, match="16 sequences in rows of 256 from step 0, 32 sequences in rows of 256 from step 99"
    ):
        check_resumable(STATE.to_json(), sooner, "step-1")


def test_a_checkpoint_of_a_run_is_not_resumed_by_a_branch_nor_the_other_way_round() -> None:
    branch = replace(STATE, branch={"from": "x", "step": 60})
    with pytest.raises(SettingError, match="this run is a branch from step 60 but the checkpoint is of no branch"):
        check_resumable(STATE.to_json(), branch, "step-1")
    with pytest.raises(SettingError, match="this run is no branch but the checkpoint is of a branch from step 60"):
        check_resumable(branch.to_json(), STATE, "step-1")
    check_resumable({**branch.to_json(), "branch": {"from": "moved", "step": 60}}, branch, "step-1")


STABLE = {"name": "wsd", "warmup_steps": 10, "stable_steps": 100, "learning_rate": 1e-3}


@pytest.mark.parametrize("schedule", [STABLE, {**STABLE, "name": "constant", "stable_steps": None}])
def test_a_stable_checkpoint_is_branched_from(schedule: dict[str, object]) -> None:
    now = replace(STATE, schedule={**STABLE, "stable_steps": 500}, branch={"from": "x", "step": 100})
    check_resumable(replace(STATE, schedule=schedule).to_json(), now, "step-1", to_branch=True)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"stable_steps": 99},
            "step-1 has decayed already: its run's rate falls from step 99 on, and this is after 100 steps",
        ),
        ({"name": "cosine", "stable_steps": None}, "step-1 is of a run with schedule cosine, whose rate changes"),
        ({"warmup_steps": 101}, "step-1 is inside its run's warm-up of 101 steps"),
        ({"learning_rate": 2e-3}, "stable learning rate of 0.002, and this branch would start at 0.001"),
    ],
)
def test_a_checkpoint_without_a_stable_rate_is_not_branched_from(changed: dict[str, object], sentence: str) -> None:
    saved = replace(STATE, schedule={**STABLE, **changed}).to_json()
    with pytest.raises(SettingError, match=sentence):
        check_resumable(saved, replace(STATE, schedule=STABLE), "step-1", to_branch=True)


def test_a_checkpoint_that_does_not_say_its_schedule_is_not_branched_from() -> None:
    with pytest.raises(SettingError, match="step-1 does not say which schedule it was trained with"):
        check_resumable(STATE.to_json(), replace(STATE, schedule=STABLE), "step-1", to_branch=True)


def test_all_differences_are_said_at_once() -> None:
    with pytest.raises(SettingError, match=r"world_size is 4.*precision is 'fp32'"):
        check_resumable(STATE.to_json(), replace(STATE, world_size=4, precision="fp32"), "step-1")


def test_another_micro_batch_takes_the_same_samples_and_is_allowed() -> None:
    check_resumable(STATE.to_json(), replace(STATE, micro_batch_size=2), "step-1")
