"""configs/l20: each recipe and the plan beside it are what the command says today."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from zhgpt.cli.plan import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "l20"
PLANS = {"l20_4h": (4, 7), "l20_24h": (24, 18), "l20_7d": (168, 50)}
"""Name: hours, GB of text."""


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
