"""``zhgpt plan`` as a user types it: proposals, predictions, JSON, overrides, refusals, this machine's CPU."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from commands import zhgpt
from tiny import Tiny
from typer.testing import CliRunner

from zhgpt.cli.main import load_command
from zhgpt.cli.plan import app
from zhgpt.config.loading import load_run_config
from zhgpt.errors import StorageError, UserError
from zhgpt.plan.gpus import Gpu
from zhgpt.plan.scaling_curve import unigram_of_the_runs

ROOT = Path(__file__).resolve().parents[2]
DIARY = ("train.steps=297", "optim.learning_rate=2e-5", "schedule.warmup_steps=10", "train.global_batch_tokens=524288")


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
    assert "15,200 steps from step 4,000 on, in all 19,200" in said


def test_where_everything_would_fail_that_is_said_in_place_of_a_proposal() -> None:
    words = ("--config", ROOT / "configs/qwen3_300m.yaml", "--hours", 4, "--text-gb", 1e-5, *DIARY)
    values = as_json(*words)
    assert values["verdict"]["kind"] == "fails"
    assert values["proposal"] is None
    assert values["no_proposal"].startswith("no plan would not fail: the text is too little")
    assert "what would not fail" not in plan(*words)
    assert "没有不会失败的方案：语料太少" in plan(*words, "--language", "zh")


def test_a_proposal_that_would_fail_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no plan would not fail: the text is too little"):
        plan("--hours", 4, "--text-gb", 2e-5)
    with pytest.raises(UserError, match="没有不会失败的方案：语料太少"):
        plan("--hours", 4, "--text-gb", 2e-5, "--language", "zh")
    assert not list(tmp_path.iterdir())


def test_outside_the_projects_folder_the_missing_json_is_called_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan("--hours", 1, "--text-gb", 1).endswith(
        "zero1.json (ds_configs/zero1.json lies in zhgpt's own folder)\n"
    )
    with pytest.raises(UserError, match=r"zero1\.json \(the one taken when --deepspeed_config is not given\): no such"):
        plan("--config", "planned.yaml")


def test_what_was_assumed_and_estimated_is_said_in_chinese_too() -> None:
    words = ("--config", ROOT / "configs/qwen3_300m.yaml", "--num-nodes", 2, "--language", "zh")
    said, values = plan(*words), as_json(*words)
    assert "estimate: 没有在这种 GPU（L20）上实测过训练" in said
    assert values["estimate"] in said
    assert values["assumed"] in said
    assert "语料足够读一遍（--text-gb）；主机之间为 infiniband-200" in values["assumed"]


def test_far_beyond_the_runs_there_is_a_band_and_no_number() -> None:
    far = as_json("--config", ROOT / "configs/qwen3_300m.yaml")["bits_per_byte"]
    assert far["bits_per_byte"] is None
    assert far["low"] < far["high"]
    near = as_json("--config", ROOT / "configs/demo.yaml", "--vocab-size", 8192)["bits_per_byte"]
    assert near["low"] < near["bits_per_byte"] < near["high"]


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


def test_without_a_name_the_recipe_is_written_beside_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = plan("--hours", 4, "--text-gb", 0.5).splitlines()
    assert said[-1] == (
        "wrote planned.yaml; train it: zhgpt pretrain --config planned.yaml --deepspeed_config ds_configs/zero1.json "
        "(ds_configs/zero1.json lies in zhgpt's own folder)"
    )
    assert load_run_config(tmp_path / "planned.yaml").run.name == "planned"
    second = as_json("--hours", 4, "--text-gb", 0.5)
    assert second["proposal"]["recipe"] == "planned-2.yaml"
    assert load_run_config(tmp_path / "planned-2.yaml").run.name == "planned-2"
    assert "已写入 planned-3.yaml；训练命令：" in plan("--hours", 4, "--language", "zh")


@pytest.mark.parametrize("name", ["12", "null", "true", "1e3", "x #1", "中文"])
def test_a_recipe_of_any_name_can_be_predicted(name: str, tmp_path: Path) -> None:
    recipe = tmp_path / f"{name}.yaml"
    plan("--hours", 1, "--output", recipe)
    assert load_run_config(recipe).run.name == name
    plan("--config", recipe)


def test_the_command_in_the_recipe_makes_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--num-nodes", 2, "--gpus-per-node", 4, "--hours", 2.5, "--text-gb", 3, "--vocab-size", 8192)
    plan(*words, "--interconnect", "ethernet-100", "--tokens-per-parameter", 15, "--output", "a b.yaml")
    recipe = tmp_path / "a b.yaml"
    first = recipe.read_text()
    command = first.splitlines()[1].removeprefix("# Written by zhgpt plan ")
    recipe.unlink()
    plan(*shlex.split(command))
    assert recipe.read_text() == first


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("there.yaml", "--output there.yaml: exists already; choose another name or remove it first"),
        ("folder", "--output folder: exists already; choose another name or remove it first"),
        ("none/x.yaml", "--output none/x.yaml: there is no folder none; make it, or choose another"),
    ],
)
def test_nothing_is_written_over_or_into_a_new_folder(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=sentence):
        plan("--hours", 1, "--output", name)
    assert (tmp_path / "there.yaml").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "there.yaml"]


def test_a_mixture_shows_its_experts_and_what_is_active() -> None:
    words = ("--config", ROOT / "configs/moe_64x300m.yaml", "--num-nodes", 2, "--gpus-per-node", 8)
    words = (*words, "--deepspeed_config", ROOT / "ds_configs/moe_zero2.json")
    said = plan(*words)
    assert "  experts: dropless: top-6 of 64 + 1 shared of width 384 in 23 of 24 layers, " in said
    assert "  1.88B parameters: 32.8M in tables, 1.85B in layers; 308M are active for a token" in said
    assert as_json(*words)["model"]["experts"].startswith("dropless: top-6 of 64")


def test_the_error_of_the_curve_stands_beside_what_it_gives() -> None:
    recipe = ROOT / "configs/qwen3_124m.yaml"
    error = as_json("--config", recipe)["curve_error_on_left_out_run"]
    said = plan("--config", recipe)
    assert "124M" not in said
    assert "  125M parameters: 24.6M in tables, 101M in layers\n" in said
    assert f"error of their curve  {100 * error:.1f} % at the run left out of its fit" in said
    assert "error of their curve" not in plan("--config", recipe, "optim.learning_rate=2e-5")


def test_where_nothing_can_be_proposed_a_failing_run_is_told_that_too() -> None:
    words = ("--config", ROOT / "configs/qwen3_300m.yaml", "--num-gpus", 16, "--text-gb", 1e-6, *DIARY)
    assert "no plan would not fail: hours and text allow 889 tokens, less than one step of the smallest" in plan(*words)
    assert as_json(*words)["no_proposal"].startswith("no plan would not fail: hours and text allow 889 tokens")


def test_a_cpu_recipe_in_fp32_is_answered_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(precision: str) -> Gpu:
        measured.append(precision)
        return Gpu("cpu", 64e9, 1e11, 1e10, 1e10, None)

    monkeypatch.setattr("zhgpt.plan.this_cpu.measure_this_cpu", measure)
    words = ("--config", ROOT / "configs/demo.yaml", "--gpu", "cpu", "--hours", 24, "optim.learning_rate=1e-5")
    values = as_json(*words)
    assert values["verdict"]["kind"] == "fails"
    assert measured == ["fp32"]
    assert values["proposal"]["config"]["train"]["precision"] == "fp32"


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


def test_the_link_between_hosts_is_named_and_where_nobody_said_it_that_too() -> None:
    words = ("--config", ROOT / "configs/qwen3_300m.yaml", "--num-nodes", 2, "--gpus-per-node", 8, "--text-gb", 60)
    taken, said = as_json(*words), as_json(*words, "--interconnect", "ethernet-10")
    assert (taken["interconnect"], said["interconnect"]) == ("infiniband-200", "ethernet-10")
    assert "infiniband-200 between hosts (--interconnect)" in taken["assumed"]
    assert "between hosts" not in said["assumed"]
    assert said["seconds"] > taken["seconds"]
    assert "on 2 hosts, infiniband-200 between them" in plan(*words)
    assert as_json("--config", ROOT / "configs/qwen3_300m.yaml")["interconnect"] is None


def test_a_plan_that_does_not_fit_is_an_answer_and_no_error() -> None:
    values = as_json("--config", ROOT / "configs/qwen3_1b3.yaml", "--gpu", "4090", "train.micro_batch_size=64")
    assert values["memory"]["fits"] is False
    assert "does_not_fit" in values["warning_kinds"]
    assert "it does not fit: " in values["warnings"][0]


def test_the_dataset_says_how_many_tokens_and_ids_there_are(tiny: Tiny) -> None:
    values = as_json("--config", tiny.recipe(), "--gpu", "L20")
    manifest = json.loads(tiny.prefix.with_name("tiny.meta.json").read_text())
    assert values["assumed"] is None
    assert values["epochs"] == pytest.approx(8 * 8 * 32 / manifest["splits"]["train"]["tokens"])
    line = manifest["floor"]["unigram_bits_per_byte"]
    assert values["bits_per_byte"]["unigram_ratio"] == pytest.approx(line / unigram_of_the_runs())


def test_bits_per_byte_are_said_for_the_text_that_is_read_and_without_one_for_the_runs_own(tiny: Tiny) -> None:
    read = plan("--config", tiny.recipe(), "--gpu", "L20", "train.steps=100")
    assert "; on other text than theirs: its unigram line is" in read
    assert "(prose: 4.7M, 3,000 steps, statutes alone)" in read
    unread = plan("--config", ROOT / "configs/demo.yaml", "--gpu", "L20", "--vocab-size", 8192)
    assert ", on text like theirs (unigram line 2.79)" in unread
    assert "error on other text" not in unread


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
        (("--hours", 0), "--hours 0: expected a number from 0.001 to 100,000"),
        (("--hours", "inf"), "--hours inf: expected a number from 0.001 to 100,000"),
        (("--hours", 4, "--num-gpus", 0), "--num-gpus 0: expected a number from 1 to 1,000,000"),
        (("--hours", 4, "--price-per-gpu-hour", -1), "--price-per-gpu-hour -1: expected a number from 0 to 1,000,000"),
        (("--hours", 4, "--text-gb", "nan"), "--text-gb nan: expected a number from 1e-06 to 1,000,000"),
        (("--hours", 4, "--text-gb", "inf"), "--text-gb inf: expected"),
        (("--hours", 4, "--text-gb", 1e-9), "--text-gb 1e-09: expected"),
        (("--config", "x.yaml", "--text-gb", "nan"), "--text-gb nan: expected"),
        (("--hours", 4, "--vocab-size", 100), "--vocab-size 100: expected a number from 256 to"),
        (
            ("--hours", 4, "--tokens-per-parameter", 0.5),
            "--tokens-per-parameter 0.5: expected a number from 1 to 1,000",
        ),
        (
            ("--hours", 1, "--output", "a: b.yaml"),
            "--output a: b.yaml: the file's name becomes run.name, and a folder's name",
        ),
        (("--hours", 1, "--output", "a\nb.yaml"), "expected a path without control characters"),
        (
            ("--hours", 1, "--deepspeed_config", "x.json"),
            "--deepspeed_config x.json belongs to a recipe; a proposal chooses",
        ),
        (
            ("--config", "x.yaml", "steps=3"),
            "'steps=3': expected section.key=value, as in train.steps=1000, or the sub-command lr",
        ),
        (("--config", "x.yaml", "foo"), "'foo': expected section.key=value"),
        (("lr", "--config", "x.yaml", "--highest", "inf"), "--highest inf must be a finite number"),
        (("--hours", 4, "--num-gpus", 2, "--num-nodes", 2), "--num-gpus counts the GPUs of one host; with --num-nodes"),
        (("--hours", 4, "--interconnect", "ethernet-10"), "--interconnect is the link between hosts; it needs"),
        (("--config", "x.yaml", "--output", "y.yaml"), "--output belongs to a proposed recipe; leave out --config"),
        (
            ("--config", "x", "--tokens-per-parameter", 9),
            "--tokens-per-parameter belongs to a proposed recipe; leave out",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(
    words: tuple[object, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence) as caught:
        plan(*words)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_command_ends_with_the_code_of_a_wrong_setting() -> None:
    assert "error: --gpu L2: not one of" in zhgpt("plan", "--gpu", "L2", "--hours", "4", code=2).stderr


def test_plan_is_a_group_that_leaves_room_for_sub_commands() -> None:
    assert hasattr(load_command("plan"), "commands")
