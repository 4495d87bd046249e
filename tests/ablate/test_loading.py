"""Grid files: what is refused, and in which words."""

from pathlib import Path

import pytest

from zhgpt.ablate.loading import load_grid
from zhgpt.errors import MissingInputError, SettingError

BASE = "base: {config: configs/demo.yaml}\n"


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "g.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError) as caught:
        load_grid(path)
    return str(caught.value).replace(str(path), "g.yaml")


def test_a_grid_takes_its_name_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "zero.yaml"
    path.write_text(BASE)
    grid = load_grid(path)
    assert (grid.name, grid.seeds, grid.constraints, grid.world_size) == ("zero", (1, 2, 3), ("equal_tokens",), 1)


def test_overrides_of_the_command_line_count_for_every_variant(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("base: {config: a.yaml, overrides: {train.steps: 10, optim.learning_rate: 1e-3}}\n")
    grid = load_grid(path, ["train.steps=20", "deepspeed.zero_optimization.stage=2"])
    assert grid.base.overrides == {
        "train.steps": 20,
        "optim.learning_rate": 1e-3,
        "deepspeed.zero_optimization.stage": 2,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("axis: {}\n" + BASE, "g.yaml line 1: unknown key axis; did you mean axes?"),
        ("base: {config: a.yaml, override: {}}\n", "unknown key base.override; did you mean base.overrides?"),
        ("base: {}\n", "g.yaml line 1: base.config is missing: runConfig recipe (YAML)"),
        (BASE + "seeds: [1, 1]\n", "g.yaml line 2: seeds: expected one or more different numbers, found [1, 1]"),
        (
            BASE + "constraints: [equal_tokens, equal_wall_clock]\n",
            "constraints: equal_tokens and equal_wall_clock cannot hold at once; keep one",
        ),
        (BASE + "constraints: [equal_token]\n", "found 'equal_token'; did you mean equal_tokens?"),
        (BASE + "processes: 0\n", "g.yaml line 2: processes: must be greater than 0, found 0"),
        (BASE + "variants: {a/b: {}}\n", "a folder's name cannot hold '/'"),
        (BASE + "probe: {steps: 3, warmup_steps: 3}\n", "leaves none of probe.steps 3 to time"),
        (BASE + "search: {space: {optim.learning_rate: {low: 1}}}\n", "expected either choices, or low and high"),
        (
            BASE + "constraints: [equal_wall_clock]\nsearch: {space: {optim.eps: {low: 1e-9, high: 1}}}\n",
            "search cannot go with equal_wall_clock",
        ),
        ("- a\n", "g.yaml: expected keys (name, base, axes, variants …), found a list of 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refusal(tmp_path, text)


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "zero.yaml").write_text(BASE)
    with pytest.raises(MissingInputError, match=r"no such grid file; there is .*zero\.yaml"):
        load_grid(tmp_path / "zeros.yaml")
