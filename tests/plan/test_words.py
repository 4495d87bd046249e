"""What a plan says: why a run fails, what does not fit and what would, what wastes the GPU; in two languages."""

import re

import pytest

from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config
from zhgpt.errors import SettingError
from zhgpt.plan.gpus import GPUS, Cluster, check_interconnect, find_gpu
from zhgpt.plan.predict import USED_SHARE, Prediction, Text, Wishes, predict, with_settings
from zhgpt.plan.propose import Proposal, propose
from zhgpt.plan.scaling_curve import load_runs, unigram_of_the_runs
from zhgpt.plan.ways_out import shipped_jsons
from zhgpt.plan.words import (
    FEWEST_STEPS,
    FEWEST_TOKENS,
    check_language,
    instead_sentence,
    is_doomed,
    sentences,
    verdict,
    warnings_in,
)

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


def test_few_tokens_a_parameter_alone_are_undertrained_and_no_failure() -> None:
    demo = planned(recipe="demo", text=Text(None, 8192))
    assert demo.tokens_per_parameter < 1
    said = verdict(demo)
    assert said.kind == "undertrained"
    assert "0.52 tokens a parameter where about 20 are usual. Expect repetition" in said.en
    assert "训练不足：每个参数只有 0.52 个 token" in said.zh


def test_fewer_steps_than_any_run_of_ours_learnt_in_fail() -> None:
    short = verdict(planned("train.steps=20", "train.global_batch_tokens=524288", "schedule.warmup_steps=2"))
    assert short.kind == "fails"
    assert "20 steps on 10.5M tokens are too few to learn more than frequencies" in short.en
    below = [run for run in load_runs() if run.bits_per_byte < unigram_of_the_runs()]
    assert min(run.tokens for run in below) / 2 == pytest.approx(FEWEST_TOKENS, rel=0.05)
    assert min(int(run.name.split()[3]) for run in below) / 2 == pytest.approx(FEWEST_STEPS, rel=0.05)


@pytest.mark.parametrize(
    ("overrides", "kind", "reason"),
    [
        (("optim.learning_rate=1",), "fails", "the learning rate 1 is 1,669 times the 6.0e-04"),
        (("schedule.name=range_test",), "fails", "schedule.name range_test drives the learning rate up"),
        (("optim.learning_rate=8e-3",), "may_diverge", "may diverge"),
        (("optim.muon_learning_rate=1e-6",), "fails", "optim.muon_learning_rate 1e-06 is a rate that fine-tunes"),
        (("optim.learning_rate=2e-5", "optim.muon_learning_rate=6e-4"), "doubtful", "the warnings name"),
        (("model.mup_base_width=48", "optim.learning_rate=2e-4"), "doubtful", "the warnings name"),
        (("optim.learning_rate=2e-5",), "fails", "the learning rate 2e-05 is a rate that fine-tunes"),
        (("optim.learning_rate=2e-5", "train.initial_weights=runs/x"), "doubtful", "the warnings name"),
    ],
)
def test_verdict_and_warnings_judge_the_same_rates(overrides: tuple[str, ...], kind: str, reason: str) -> None:
    prediction = planned(*overrides, recipe="qwen3_124m")
    said = verdict(prediction)
    assert said.kind == kind
    assert reason in said.en
    assert {"low_rate", "high_rate", "range_test"} & set(kinds(prediction))


def test_nothing_is_offered_instead_that_would_fail_too() -> None:
    def instead(hours: float, text: Text) -> Proposal:
        return propose("instead", Cluster(GPUS["L20"]), hours, text, Wishes(hours))

    assert instead_sentence(instead(4, ENOUGH)).en.startswith("what would not fail: 1 x L20, ")
    for proposal, lacking in (
        (instead(4, Text(10_000, 32_000)), "the text is too little"),
        (instead(1e-5, ENOUGH), "the hours are too little"),
    ):
        assert is_doomed(proposal.prediction)
        said = instead_sentence(proposal)
        assert said.kind == "nothing_instead"
        assert f"no plan would not fail: {lacking}" in said.en


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


def test_where_no_micro_batch_fits_a_file_that_does_is_named() -> None:
    big = planned("train.micro_batch_size=1", "optim.name=adamw", recipe="qwen3_1b3", gpu="4090")
    assert not big.fits
    assert "--deepspeed_config ds_configs/zero2_offload.json does, with " in sentences(big)[0].en
    assert with_settings(big, shipped_jsons(mixture=False)["zero2_offload"]).fits


def test_a_higher_stage_is_named_where_it_fits() -> None:
    large = ("model.num_hidden_layers=80", "train.micro_batch_size=1")
    big = planned(*large, recipe="qwen3_1b3", gpu="4090", count=8)
    assert not big.fits
    assert "--deepspeed_config ds_configs/zero2.json does." in sentences(big)[0].en


@pytest.mark.parametrize("json", ["zero2_offload", "zero3_offload", "zero2"])
def test_what_does_not_help_is_not_named(json: str) -> None:
    long = ("data.sequence_length=1048576", "train.global_batch_tokens=2097152", "train.micro_batch_size=1")
    prediction = planned(*long, recipe="qwen3_1b3", gpu="4090", count=2, json=json)
    said = sentences(prediction)[0]
    assert said.kind == "does_not_fit"
    assert said.en.endswith("take a smaller model, shorter sequences or more GPUs.")
    assert ".json" not in said.en + said.zh


@pytest.mark.parametrize("mixture", [False, True])
def test_the_files_that_are_tried_are_those_in_the_folder(mixture: bool) -> None:
    for name, values in shipped_jsons(mixture=mixture).items():
        assert values == load_deepspeed_json(f"ds_configs/{name}.json")


def test_a_ramp_needs_micro_batches_that_divide_each_of_its_stages() -> None:
    ramp = "train.batch_ramp=[{global_batch_tokens: 65536, until_step: 4000}]"
    small = planned(ramp, "train.micro_batch_size=1", recipe="gpt2_124m", gpu="H100")
    (said,) = [sentence for sentence in sentences(small) if sentence.kind == "small_micro_batch"]
    assert 64 % int(re.search(r"(\d+) fits", said.en)[1]) == 0  # type: ignore[index]
    odd = ("train.batch_ramp=[{global_batch_size: 36, until_step: 4000}]", "train.global_batch_tokens=589824")
    large = planned(*odd, "train.micro_batch_size=36", recipe="qwen3_300m", gpu="4090")
    size = int(re.search(r"train.micro_batch_size=(\d+) does", sentences(large)[0].en)[1])  # type: ignore[index]
    assert 36 % size == 288 % size == 0
    assert with_settings(large, micro_batch_size=size).fits


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
    assert steps * prediction.step.total <= 4 * 3600 * USED_SHARE < (steps + 1) * prediction.step.total
    again = planned(f"train.steps={steps}", hours=4)
    assert "too_long" not in kinds(again)


def test_hours_without_a_single_step_are_told_so() -> None:
    (said,) = [sentence for sentence in sentences(planned(hours=1e-4)) if sentence.kind == "too_long"]
    assert "Not even its first step fits" in said.en


def test_a_micro_batch_that_wastes_the_gpu_is_named() -> None:
    assert kinds(planned("train.micro_batch_size=1", recipe="gpt2_124m", gpu="H100")) == ["small_micro_batch"]
    assert kinds(planned(recipe="gpt2_124m", gpu="L20")) == []


def test_a_micro_step_smaller_than_any_that_was_measured_is_named() -> None:
    small = planned("train.micro_batch_size=1", recipe="gpt2_124m", gpu="L20")
    (said,) = sentences(small)
    assert said.kind == "small_micro_batch"
    assert "a micro-step of 1,024 tokens, and nothing was measured below 12,288" in said.en
    assert "16 fits, with the same global batch" in said.en


def test_bf16_on_a_gpu_without_bf16_units_is_named() -> None:
    slow = planned(recipe="qwen3_124m", gpu="V100")
    (said,) = sentences(slow)
    assert said.kind == "bf16_without_units"
    assert "set train.precision=fp16" in said.en
    assert with_settings(slow, precision="fp16").tokens_per_second > 4 * slow.tokens_per_second
    assert "fp16 needs ZeRO 1 or more" in sentences(planned(recipe="qwen3_124m", gpu="V100", json="zero0"))[0].en
    assert kinds(planned("train.precision=fp16", recipe="qwen3_124m", gpu="V100")) == []


def test_chinese_warnings_say_the_same_things_once() -> None:
    prediction = planned(*DIARY, text=Text(3e7, 32_000))
    wide = planned("model.mup_base_width=256", "optim.learning_rate=2e-3", recipe="qwen3_1b3")
    assert not {"low_rate", "high_rate"} & set(kinds(wide))
    assert len(warnings_in(wide, "en")) == len(warnings_in(wide, "zh"))
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
    mixture = planned(recipe="moe_8x124m", gpu="H100", json="moe_zero1").estimate
    assert mixture is not None
    assert "no mixture of experts was measured" in mixture.en


def test_gpus_are_found_in_the_spellings_people_use() -> None:
    for name in ("l20", "NVIDIA L20", "RTX 4090", "A100-80GB", "a100", "H100-80GB", "V100"):
        find_gpu(name)


def test_what_cannot_be_counted_with_is_refused() -> None:
    with pytest.raises(SettingError, match=r"--gpu L2: not one of L20, L40S, .* or cpu"):
        find_gpu("L2")
    with pytest.raises(SettingError, match="--interconnect wifi: not one of ethernet-10, "):
        check_interconnect("wifi")
    with pytest.raises(SettingError, match="--language fr: expected en or zh"):
        check_language("fr")
