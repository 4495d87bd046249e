"""Recipes and README: what a plan says in configs/l20 and in their words is what the command says today."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from zhgpt.cli.plan import app
from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config
from zhgpt.config.quantities import duration_text
from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.predict import Text, Wishes, predict

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "l20"
PLANS = {"l20_4h": (4, 7), "l20_24h": (24, 18), "l20_7d": (168, 50)}
"""Name: hours, GB of text."""
ESTIMATED = {
    "gpt2_124m": ("zero1", 1),
    "qwen3_124m": ("zero1", 1),
    "qwen3_300m": ("zero1", 1),
    "qwen3_1b3": ("zero1", 8),
    "moe_8x124m": ("moe_zero1", 1),
}
"""Recipes whose comments quote a plan: the DeepSpeed JSON, and how many L20."""


def said(monkeypatch: pytest.MonkeyPatch, place: Path, *words: str) -> str:
    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", PLANS)
def test_the_recipe_is_what_is_proposed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours, text_gb = PLANS[name]
    (tmp_path / "configs/l20").mkdir(parents=True)
    output = f"configs/l20/{name}.yaml"
    words = ("--gpu", "L20", "--num-gpus", "1", "--hours", str(hours), "--text-gb", str(text_gb), "--output", output)
    said(monkeypatch, tmp_path, *words)
    assert (tmp_path / output).read_text() == (ROOT / output).read_text()


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_beside_it_is_what_is_predicted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hours, text_gb = PLANS[name]
    config = f"configs/l20/{name}.yaml"
    output = said(
        monkeypatch, ROOT, "--config", config, "--gpu", "L20", "--hours", str(hours), "--text-gb", str(text_gb)
    )
    assert (FOLDER / f"{name}.plan.txt").read_text() == output


@pytest.mark.parametrize("name", ESTIMATED)
def test_memory_and_time_in_a_recipes_comments_are_those_of_the_plan(name: str) -> None:
    json, count = ESTIMATED[name]
    recipe = FOLDER.parent / f"{name}.yaml"
    config, ds_json = load_run_config(recipe), load_deepspeed_json(ROOT / f"ds_configs/{json}.json")
    text = Text(None, config.model.vocab_size or 32_000)
    plan = predict(config, ds_json, Cluster(GPUS["L20"], 1, count), text, Wishes())
    memory, time = f"{plan.memory.total / 2**30:.1f} GiB a GPU", duration_text(plan.seconds)
    comments = " ".join(line.strip("# ") for line in recipe.read_text().splitlines() if line.startswith("#"))
    number = {1: "one", 8: "eight"}[count]
    assert f"By zhgpt plan, {memory} and {time} on {number} L20 (48 GB)" in comments
    for readme in ("README.md", "README.zh-CN.md"):
        assert name not in ("qwen3_124m", "qwen3_300m", "qwen3_1b3") or time in (ROOT / readme).read_text()
