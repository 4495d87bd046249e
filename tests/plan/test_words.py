"""What a plan says: why a run fails, what does not fit and what would, what wastes the GPU; in two languages."""

import re

import pytest

from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config
from zhgpt.errors import SettingError
from zhgpt.plan.gpus import GPUS, Cluster, find_gpu, find_interconnect
from zhgpt.plan.predict import Prediction, Text, Wishes, predict, with_settings
from zhgpt.plan.words import check_language, sentences, verdict, warnings_in

ENOUGH = Text(None, 32_000)
DIARY = ("optim.learning_rate=2e-5", "train.steps=297", "schedule.warmup_steps=10", "train.global_batch_tokens=524288")


def planned(
    *overrides: str, recipe: str = "qwen3_300m", gpu: str = "L20", count: int = 1, hours: float | None = None,
    text: Text = ENOUGH, json: str = "zero1",
) -> Prediction:  # fmt: skip
    config = load_run_config(f"configs/{recipe}.yaml", overrides)
    ds_json = load_deepspeed_json(f"ds_configs/{json}.json")
    return predict(config, ds_json, Cluster(GPUS[gpu], 1, count), text, Wishes(hours, 2.0))


def kinds(prediction: Prediction) -> list[str]:
    return [sentence.kind for sentence in sentences(prediction)]


def test_the_diarys_run_is_told_why_it_fails() -> None:
    said = verdict(planned(*DIARY))
    assert said.kind == "fails"
    assert "0.5 each where about 20 are usual" in said.en
    assert "a rate that fine-tunes a trained model, a 16th of" in said.en
    assert "每个参数 0.5 个，通常约 20 个" in said.zh
    assert "微调用的学习率" in said.zh


def test_a_sound_recipe_is_said_to_be_sound() -> None:
    assert verdict(planned()).kind == "sound"


def test_what_does_not_fit_is_told_the_nearest_micro_batch_that_does() -> None:
    prediction = planned("train.micro_batch_size=64")
    (said,) = [sentence for sentence in sentences(prediction) if sentence.kind == "does_not_fit"]
    found = re.search(r"train.micro_batch_size=(\d+) does", said.en)
    assert found is not None
    size = int(found[1])
    assert with_settings(prediction, micro_batch_size=size).fits
    assert not with_settings(prediction, micro_batch_size=size * 2).fits


def test_where_no_micro_batch_fits_checkpointing_then_offload_are_named() -> None:
    big = planned("train.micro_batch_size=1", recipe="qwen3_1b3", gpu="4090")
    assert not big.fits
    assert "zero2_offload.json" in sentences(big)[0].en


def test_layers_that_are_kept_are_given_up_where_only_that_makes_it_fit() -> None:
    words = ("train.micro_batch_size=1", "train.global_batch_size=8", "data.sequence_length=49152")
    kept = ("train.activation_checkpointing=true", "train.recomputed_layers=24", "model.max_position_embeddings=49152")
    prediction = planned(*words, *kept, "train.global_batch_tokens=null", recipe="qwen3_300m", gpu="L20")
    assert not prediction.fits
    assert "train.micro_batch_size=1 train.recomputed_layers=null does" in sentences(prediction)[0].en
    assert with_settings(prediction, recomputed_layers=None).fits


def test_a_run_longer_than_the_hours_is_told_the_steps_that_fit() -> None:
    prediction = planned(hours=4)
    (said,) = [sentence for sentence in sentences(prediction) if sentence.kind == "too_long"]
    steps = int(re.search(r"train.steps=(\d+)", said.en)[1])  # type: ignore[index]
    assert steps * prediction.step.total <= 4 * 3600 < (steps + 2) * prediction.step.total


def test_a_micro_batch_that_wastes_the_gpu_is_named() -> None:
    assert kinds(planned("train.micro_batch_size=1", recipe="gpt2_124m", gpu="H100")) == ["small_micro_batch"]
    assert kinds(planned(recipe="gpt2_124m", gpu="L20")) == []


def test_chinese_warnings_say_the_same_things_once() -> None:
    prediction = planned(*DIARY, text=Text(3e7, 32_000))
    english, chinese = warnings_in(prediction, "en"), warnings_in(prediction, "zh")
    assert len(english) == len(chinese) == 3
    assert all(re.search("[一-鿿]", text) for text in chinese)


def test_cost_and_energy_follow_from_the_duration() -> None:
    prediction = planned(count=8)
    hours = prediction.seconds / 3600
    assert prediction.money == pytest.approx(hours * 8 * 2.0)
    assert prediction.kilowatt_hours == pytest.approx(hours * 8 * 0.275)


def test_every_gpu_without_training_rows_is_called_an_estimate() -> None:
    labelled = {name for name in GPUS if planned(gpu=name, recipe="qwen3_124m").estimate is not None}
    assert labelled == {"L20", "L40S", "4090", "H20", "V100"}
    assert "no mixture of experts was measured" in (
        planned(recipe="moe_8x124m", gpu="H100", json="moe_zero1").estimate or ""
    )


def test_gpus_are_found_in_the_spellings_people_use() -> None:
    for name in ("l20", "NVIDIA L20", "RTX 4090", "A100-80GB", "a100", "H100-80GB", "V100"):
        find_gpu(name)


def test_what_cannot_be_counted_with_is_refused() -> None:
    with pytest.raises(SettingError, match=r"--gpu L2: not one of L20, L40S, .* or cpu"):
        find_gpu("L2")
    with pytest.raises(SettingError, match="--interconnect wifi: not one of ethernet-10, "):
        find_interconnect("wifi")
    with pytest.raises(SettingError, match="--language fr: expected en or zh"):
        check_language("fr")
