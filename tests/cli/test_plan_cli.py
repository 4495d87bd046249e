"""``zhgpt plan`` as a user types it: proposals, predictions, JSON, overrides, refusals, this machine's CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import zhgpt
from tiny import Tiny
from typer.testing import CliRunner

from zhgpt.cli.main import load_command
from zhgpt.cli.plan import app
from zhgpt.config.loading import load_run_config
from zhgpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DIARY = ("train.steps=297", "optim.learning_rate=2e-5", "schedule.warmup_steps=10")


def plan(*words: object) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def as_json(*words: object) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(plan(*words, "--json"))
    return values


def test_the_diarys_case_is_told_why_it_failed_and_what_would_not() -> None:
    said = plan("--config", ROOT / "configs/qwen3_300m.yaml", "--gpu", "L20", "--hours", 4, "--text-gb", 0.35, *DIARY)
    assert (
        "verdict: This run fails: 311M parameters see 156M tokens, 0.5 each where about 20 are usual; and the" in said
    )
    assert "what would not fail: 1 x L20" in said
    assert "none to expect: our runs had a learning rate for pretraining" in said


def test_a_recipe_with_a_batch_ramp_is_predicted() -> None:
    ramp = "train.batch_ramp=[{global_batch_tokens: 65536, until_step: 4000}]"
    said = plan("--config", ROOT / "configs/qwen3_124m.yaml", "--gpu", "H100", ramp)
    assert "verdict: It runs and learns" in said


def test_a_branch_is_predicted_from_its_first_step_on() -> None:
    branch = "train.branch_from=runs/x/checkpoints/step-00004000"
    said = plan("--config", ROOT / "configs/qwen3_124m.yaml", "--gpu", "H100", branch)
    assert "800 steps from step 4,000 on, in all 4,800" in said


def test_where_everything_would_fail_that_is_said_in_place_of_a_proposal() -> None:
    words = ("--config", ROOT / "configs/qwen3_300m.yaml", "--hours", 4, "--text-gb", 1e-5, *DIARY)
    values = as_json(*words)
    assert values["verdict"]["kind"] == "fails"
    assert values["proposal"] is None
    assert values["no_proposal"].startswith("no plan would not fail: the text is too little")
    assert "what would not fail" not in plan(*words)
    assert "没有不会失败的方案：语料太少" in plan(*words, "--language", "zh")


def test_the_same_in_chinese() -> None:
    words = ("--config", ROOT / "configs/qwen3_300m.yaml", "--hours", 4, "--text-gb", 0.35, "--language", "zh")
    said = plan(*words, *DIARY)
    assert "结论：这次训练会失败：" in said
    assert "换成这样就不会失败：1 x L20" in said


def test_a_proposal_is_written_as_a_recipe_that_loads_and_is_predicted_the_same(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    proposed = as_json("--gpu", "L20", "--num-gpus", 1, "--hours", 4, "--text-gb", 8, "--output", recipe)
    config = load_run_config(recipe)
    assert config.run.name == "mine"
    assert config.model_dump(mode="json") == proposed["proposal"]["config"]
    stage = proposed["proposal"]["zero_stage"]
    words = (
        "--config",
        recipe,
        "--deepspeed_config",
        ROOT / f"ds_configs/zero{stage}.json",
        "--hours",
        4,
        "--text-gb",
        8,
    )
    predicted = as_json(*words)
    assert {key: predicted[key] for key in predicted} == {key: proposed[key] for key in proposed if key != "proposal"}


def test_several_hosts_are_predicted_with_memory_cost_and_days() -> None:
    words = ("--deepspeed_config", ROOT / "ds_configs/zero2.json", "--num-nodes", 2, "--gpus-per-node", 8)
    values = as_json(
        *("--config", ROOT / "configs/qwen3_1b3.yaml", *words, "--interconnect", "infiniband-400"),
        *("--price-per-gpu-hour", 2),
    )
    assert (values["nodes"], values["gpus_per_node"], values["zero_stage"]) == (2, 8, 2)
    assert {"parameters", "gradients", "optimizer", "activations", "logits"} <= set(values["memory"]["parts_bytes"])
    assert sum(values["memory"]["parts_bytes"].values()) == pytest.approx(values["memory"]["total_bytes"], abs=10)
    assert values["money"] == pytest.approx(values["seconds"] / 3600 * 16 * 2)
    assert values["batch"]["data_parallel_size"] == 16


def test_a_plan_that_does_not_fit_is_an_answer_and_no_error() -> None:
    values = as_json("--config", ROOT / "configs/qwen3_1b3.yaml", "--gpu", "4090", "train.micro_batch_size=8")
    assert values["memory"]["fits"] is False
    assert "does_not_fit" in values["warning_kinds"]
    assert "it does not fit: " in values["warnings"][0]


def test_the_dataset_says_how_many_tokens_and_ids_there_are(tiny: Tiny) -> None:
    values = as_json("--config", tiny.recipe(), "--gpu", "L20")
    manifest = json.loads(tiny.prefix.with_name("tiny.meta.json").read_text())
    assert values["assumed"] is None
    assert values["epochs"] == pytest.approx(8 * 8 * 32 / manifest["splits"]["train"]["tokens"])


def test_this_machines_cpu_is_measured() -> None:
    values = as_json("--config", ROOT / "configs/demo.yaml", "--gpu", "cpu", "--num-gpus", 2, "--vocab-size", 8192)
    assert values["gpu"] == "cpu"
    assert 0 < values["mfu"] < 1
    assert "CUDA context" not in values["memory"]["parts_bytes"]
    assert values["kilowatt_hours"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name a recipe with --config, or the hours that may be spent with --hours"),
        (("--hours", 4, "train.steps=3"), "train.steps=3 overrides a recipe; name one with --config"),
        (("--hours", 0), "--hours 0 must be greater than 0"),
        (("--hours", 4, "--num-gpus", 0), "--num-gpus 0 must be greater than 0"),
        (("--hours", 4, "--price-per-gpu-hour", -1), "--price-per-gpu-hour -1 must be 0 or greater"),
        (("--hours", 4, "--num-gpus", 2, "--num-nodes", 2), "--num-gpus counts the GPUs of one host; with --num-nodes"),
        (("--hours", 4, "--interconnect", "ethernet-10"), "--interconnect is the link between hosts; it needs"),
        (("--config", "x.yaml", "--output", "y.yaml"), "--output writes a proposed recipe; leave out --config"),
    ],
)
def test_what_cannot_be_planned_is_refused(words: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        plan(*words)
    assert caught.value.exit_code == 2


def test_the_command_ends_with_the_code_of_a_wrong_setting() -> None:
    assert "error: --gpu L2: not one of" in zhgpt("plan", "--gpu", "L2", "--hours", "4", code=2).stderr


def test_plan_is_a_group_that_leaves_room_for_sub_commands() -> None:
    assert hasattr(load_command("plan"), "commands")
