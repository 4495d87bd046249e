"""What a real run does about a spike: noise in its data, and gradients that are no numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import Moment
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, checkpoint_tensors, metrics, same_numbers
from written_dataset import write_dataset

from megatron_style_data.manifest import load_manifest

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

NOISE_AT = 20
STEPS = 26
BF16 = "train.precision=bf16"
# The defaults are Muon and bf16; at ZeRO-1, bf16 is another class of DeepSpeed than fp32.
KINDS: dict[str, tuple[str, ...]] = {
    "adamw-bf16": (BF16,),
    "muon-bf16": ("optim.name=muon", BF16),
    "muon-fp32-mixture": (
        *("optim.name=muon", "model.moe.num_experts=4", "model.moe.num_experts_per_tok=1"),
        "model.moe.moe_intermediate_size=24",
    ),
}


def events(run_dir: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if line["event"] == name]


def train_state(run_dir: Path, step: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run_dir / "checkpoints" / f"step-{step:08d}" / "train_state.json").read_text())
    return state


@pytest.fixture(scope="module")
def noisy(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings of a run whose samples of one step are a token that the text hardly has, over and over."""
    prefix = tmp_path_factory.mktemp("noise") / "noise"
    rare = np.full(37 * 40, 7)
    write_dataset(prefix, [rare], tokenizer=load_manifest(tiny.prefix).tokenizer)
    blend = f"data.blend=[{{data: {tiny.prefix}, name: text, weight: 1}}, {{data: {prefix}, name: noise, weight: 0}}]"
    phases = f"{{from_step: {NOISE_AT}, weights: {{noise: 1}}}}, {{from_step: {NOISE_AT + 1}, weights: {{text: 1}}}}"
    clean = ("optim.learning_rate=1e-2", f"train.steps={STEPS}", "evaluate.prompts=[]", "evaluate.every_steps=100")
    return ("data.train=null", blend, f"data.phases=[{phases}]", f"data.tokenizer={tiny.tokenizer}", *clean)


@pytest.fixture(scope="module")
def clean(ranks: Ranks, tiny: Tiny, noisy: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same text that never meets the noise."""
    folder = tmp_path_factory.mktemp("clean")
    ranks.results("faults:train", tiny.argv(folder, *noisy, "data.phases=[]", "checkpoint.every_steps=10"))
    return folder


def assert_is_the_clean_run(run_dir: Path, clean: Path) -> None:
    assert same_numbers(run_dir) == same_numbers(clean)
    last = f"checkpoints/step-{STEPS:08d}"
    assert_same_checkpoint(run_dir / last, clean / last)
    assert train_state(run_dir, STEPS)["consumed_samples"] == train_state(clean, STEPS)["consumed_samples"] + 8


def assert_only_the_spike_changed_nothing(run_dir: Path) -> None:
    """Checkpoints of the steps before, with and after the spike."""
    before, held_back, after = (
        checkpoint_tensors(run_dir / f"checkpoints/step-{NOISE_AT + number:08d}") for number in range(3)
    )
    assert before.keys() == held_back.keys()
    assert all(torch.equal(tensor, held_back[name]) for name, tensor in before.items())
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_run_that_rolls_back_past_noise_is_the_one_that_never_met_it_bit_for_bit(
    ranks: Ranks, tiny: Tiny, noisy: tuple[str, ...], clean: Path, tmp_path: Path
) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path, *noisy, "checkpoint.every_steps=10", "health.on_spike=roll_back"))
    (back,) = events(tmp_path, "rolled_back")
    assert (back["step"], back["from_step"], back["passed_over_samples"]) == (20, 21, 8)
    assert_is_the_clean_run(tmp_path, clean)


@pytest.mark.parametrize("kind", KINDS)
def test_other_optimizers_and_precisions_roll_back_and_skip_bit_for_bit(
    kind: str, ranks: Ranks, tiny: Tiny, noisy: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*noisy, *KINDS[kind], "checkpoint.every_steps=20")
    for name, policy in (("clean", "data.phases=[]"), ("back", "health.on_spike=roll_back")):
        ranks.results("faults:train", tiny.argv(tmp_path / name, *words, policy))
    assert [event["from_step"] for event in events(tmp_path / "back", "rolled_back")] == [NOISE_AT + 1]
    assert_is_the_clean_run(tmp_path / "back", tmp_path / "clean")
    # From the same checkpoint, at the spike's doorstep: what was saved there is what the policy decides by.
    before = f"checkpoints/step-{NOISE_AT:08d}"
    each = ("checkpoint.every_steps=1", f"checkpoint.keep_last={STEPS}", "health.on_spike=skip")
    argv = tiny.argv(tmp_path / "skip", *words, *each, resume=str(tmp_path / "back" / before))
    ranks.results("faults:train", argv)
    (tmp_path / "skip" / before).symlink_to(tmp_path / "back" / before)
    assert [spike["step"] for spike in events(tmp_path / "skip", "spike")] == [NOISE_AT + 1]
    assert_only_the_spike_changed_nothing(tmp_path / "skip")


def test_a_gradient_that_is_no_number_is_left_out_in_bf16_too(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    words = (*KINDS["muon-bf16"], "health.on_spike=skip", "evaluate.every_steps=100", "train.steps=4")
    ranks.results("faults:train_with_a_poisoned_gradient", tiny.argv(tmp_path, *words), 1, world_size=1)
    assert [(event["step"], event["reason"]) for event in events(tmp_path, "spike")] == [(2, "gradient norm inf")]
    assert metrics(tmp_path)[-1]["step"] == 4


def test_a_run_killed_after_a_roll_back_goes_on_with_the_samples_that_are_left(
    ranks: Ranks, tiny: Tiny, noisy: tuple[str, ...], clean: Path, tmp_path: Path
) -> None:
    argv = tiny.argv(tmp_path, *noisy, "checkpoint.every_steps=4", "health.on_spike=roll_back")
    # 21 steps to the spike and then 5 of the steps after 20: step 24 has been saved, step 25 has begun.
    killed = ranks.run("faults:train_and_die", argv, Moment("zhgpt.train.loop:train_step", 26, 1))
    assert killed[1].code == -9, killed[1].output[-2000:]
    assert train_state(tmp_path, 24)["spikes"]["skipped_samples"] == 8
    ranks.results("faults:train", argv)
    assert_is_the_clean_run(tmp_path, clean)


@pytest.mark.parametrize(("stage", "policy"), [(0, "skip"), (2, "lower_rate"), (3, "skip")])
def test_an_update_that_is_held_back_leaves_weights_and_optimizer_as_they_were(
    stage: int, policy: str, ranks: Ranks, tiny: Tiny, noisy: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("checkpoint.every_steps=1", "checkpoint.keep_last=3", "train.steps=22", f"health.on_spike={policy}")
    ranks.results("faults:train", tiny.argv(tmp_path, *noisy, *words, "schedule.name=constant", stage=stage))
    (spike,) = events(tmp_path, "spike")
    assert (spike["step"], spike["policy"]) == (NOISE_AT + 1, policy)
    assert metrics(tmp_path)[NOISE_AT]["held_back_steps"] == 1
    assert train_state(tmp_path, 22)["spikes"]["held_back_in_a_row"] == 0
    assert_only_the_spike_changed_nothing(tmp_path)
    rates = [line["learning_rate"] for line in metrics(tmp_path)][NOISE_AT:]
    assert rates[1] == rates[0] * (0.5 if policy == "lower_rate" else 1)


def test_without_a_checkpoint_to_go_back_to_the_update_is_left_out(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    argv = tiny.argv(tmp_path, "health.on_spike=roll_back", "evaluate.every_steps=100")
    ranks.results("faults:train_with_a_poisoned_gradient", argv, 1, world_size=1)
    assert [(event["step"], event["reason"]) for event in events(tmp_path, "spike")] == [(2, "gradient norm inf")]
    (event,) = events(tmp_path, "spike_no_checkpoint")
    assert event["text"] == "step 2: no checkpoint to go back to yet; the update was left out instead"
    assert metrics(tmp_path)[-1]["step"] == 8


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("skip", "step 25: 21 updates in a row were held back (gradient norm inf): this is no spike any more."),
        ("roll_back", "step-00000003 3 times: other samples do not help. Lower optim.learning_rate"),
    ],
)
def test_a_gradient_that_stays_no_number_ends_the_run_as_diverged(
    policy: str, sentence: str, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    argv = tiny.argv(tmp_path, f"health.on_spike={policy}", "train.steps=40", "evaluate.every_steps=100")
    words = () if policy == "roll_back" else ("checkpoint.every_steps=100",)
    (outcome,) = ranks.run("faults:train_with_a_poisoned_gradient", [*argv, *words], 4, 40, world_size=1)
    assert outcome.code == 3
    assert sentence in outcome.output
