"""The recipes that ship: each loads, plans, composes, and does what its comments say."""

import re
from pathlib import Path

import pytest

from zhgpt.config.advice import RunNumbers, advice_for
from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.deepspeed_json import compose_deepspeed_config, load_deepspeed_json
from zhgpt.config.loading import load_run_config, resolve_model
from zhgpt.errors import SettingError
from zhgpt.model.shape import count_parameters, flops_per_token

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "configs" / "l20").glob("*.yaml")])
JSONS = sorted((ROOT / "ds_configs").glob("*.json"))
# Name: vocabulary, parameters in millions, largest power-of-two world size.
PRETRAINING = {
    "gpt2_124m": (50_257, 124, 32),
    "qwen3_124m": (32_000, 125, 8),
    "qwen3_300m": (32_000, 311, 16),
    "qwen3_1b3": (32_000, 1272, 32),
    "moe_8x124m": (32_000, 654, 64),
    "moe_64x300m": (32_000, 1882, 64),
}


def recipe(name: str) -> Path:
    return ROOT / "configs" / f"{name}.yaml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_named_after_its_file(path: Path) -> None:
    assert load_run_config(path).run.name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("json_path", JSONS, ids=lambda path: path.stem)
def test_every_recipe_goes_with_every_deepspeed_json(path: Path, json_path: Path) -> None:
    config = load_run_config(path)
    world_size = max(2, config.train.ep_size)
    plan = plan_batch(config, world_size)
    if config.train.ep_size > 1 and json_path.stem.startswith("zero3"):
        with pytest.raises(SettingError, match="ZeRO stage 3 cannot hold experts that are shared out over ranks"):
            compose_deepspeed_config(config, load_deepspeed_json(json_path), plan, accelerator="cuda")
        return
    composed = compose_deepspeed_config(config, load_deepspeed_json(json_path), plan, accelerator="cuda")
    assert composed["train_batch_size"] == plan.global_batch_size


@pytest.mark.parametrize("name", PRETRAINING)
def test_a_recipe_has_the_parameters_of_its_name(name: str) -> None:
    vocabulary, millions, _ = PRETRAINING[name]
    count = count_parameters(resolve_model(load_run_config(recipe(name)), vocabulary))
    assert round(count.total / 1e6) == millions


@pytest.mark.parametrize("name", PRETRAINING)
def test_a_recipe_divides_on_one_to_many_gpus(name: str) -> None:
    config, largest = load_run_config(recipe(name)), PRETRAINING[name][2]
    assert plan_batch(config, largest).gradient_accumulation_steps == 1
    assert plan_batch(config, 1).gradient_accumulation_steps == largest


@pytest.mark.parametrize("name", PRETRAINING)
@pytest.mark.parametrize("world_size", [1, 8])
def test_a_recipe_pretrains_without_a_warning(name: str, world_size: int) -> None:
    config = load_run_config(recipe(name))
    plan = plan_batch(config, world_size)
    model = resolve_model(config, 32_000)
    count = count_parameters(model)
    flops = flops_per_token(model, plan.sequence_length)
    numbers = RunNumbers(count.total, count.embedding, flops, 10**11, active_parameters=count.active)
    assert advice_for(config, plan, model, load_deepspeed_json(ROOT / "ds_configs/zero1.json"), numbers) == []
    assert 20 <= plan.total_tokens / count.active < 24


@pytest.mark.parametrize("name", PRETRAINING)
def test_the_arithmetic_in_the_comments_is_right(name: str) -> None:
    text = " ".join(line.strip("# ") for line in recipe(name).read_text().splitlines() if line.startswith("#"))
    config = load_run_config(recipe(name))
    plan = plan_batch(config, 1)
    model = resolve_model(config, 32_000)
    flops = flops_per_token(model, plan.sequence_length)
    length = re.search(
        r"Length: ([\d,]+) steps x ([\d,]+) tokens = ([\d.]+)B tokens = ([\d.]+) tokens an? (?:active )?parameter", text
    )
    assert length is not None
    assert [int(group.replace(",", "")) for group in length.groups()[:2]] == [plan.steps, plan.tokens_per_step]
    assert float(length[3]) == pytest.approx(plan.total_tokens / 1e9, rel=0.005)
    assert float(length[4]) == pytest.approx(plan.total_tokens / count_parameters(model).active, abs=0.06)
    compute = re.search(r"B tokens x ([\d.]+) GFLOPs = ([\d.e]+) FLOPs", text)
    assert compute is not None
    assert float(compute[1]) == pytest.approx(flops / 1e9, rel=0.01)
    assert float(compute[2]) == pytest.approx(flops * plan.total_tokens, rel=0.05)
    assert "estimates; not run on a GPU yet" in text


def test_the_demo_is_small_and_splits_over_one_and_two_ranks() -> None:
    config = load_run_config(recipe("demo"))
    assert count_parameters(resolve_model(config, 8192)).total < 5_000_000
    for world_size in (1, 2):
        plan_batch(config, world_size)


def test_the_demo_runs_for_twenty_steps_too() -> None:
    config = load_run_config(recipe("demo"), ["train.steps=20"])
    assert plan_batch(config, 2).steps == 20
