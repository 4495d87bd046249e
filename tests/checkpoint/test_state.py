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


def test_all_differences_are_said_at_once() -> None:
    with pytest.raises(SettingError, match=r"world_size is 4.*precision is 'fp32'"):
        check_resumable(STATE.to_json(), replace(STATE, world_size=4, precision="fp32"), "step-1")


def test_another_micro_batch_takes_the_same_samples_and_is_allowed() -> None:
    check_resumable(STATE.to_json(), replace(STATE, micro_batch_size=2), "step-1")
