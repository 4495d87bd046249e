"""Recipes: what is refused and in which words; the recipes that come with zhgpt."""

from pathlib import Path

import pytest

from megatron_style_data.cleaning.recipe import load_recipe
from megatron_style_data.cleaning.steps import STEPS
from megatron_style_data.errors import SettingError
from zhgpt.config.yaml_text import parse_yaml

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "corpus"
GOOD = {"inputs": [{"path": "a.jsonl"}], "steps": {"length": None}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inptus": []}, "r.yaml: unknown key inptus; did you mean inputs?"),
        ({"inputs": [{"path": "a", "licence": "CC0"}]}, "unknown key inputs.0.licence; did you mean inputs.0.license?"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{}]}, "inputs.0.path is missing: a file, a folder, a glob"),
        ({"inputs": [{"path": "a", "source_pattern": "("}]}, "inputs.0.source_pattern: not a regular expression"),
        ({"steps": {}}, "steps: no step; name at least one"),
        ({"steps": {"lenght": None}}, "unknown step lenght; did you mean length?"),
        ({"steps": {"zzz": None}}, "unknown step zzz; known here: encoding, width"),
        ({"steps": {"length": 3}}, "steps.length: expected settings below it or nothing, found 3"),
        ({"steps": {"length": {"minimum": 3}}}, "steps.length.minimum; did you mean steps.length.minimum_characters?"),
        ({"steps": {"length": {"minimum_characters": -1}}}, "minimum_characters: must be at least 0, found -1"),
        ({"steps": {"characters": {"minimum_cjk_share": 2}}}, "minimum_cjk_share: must be at most 1, found 2"),
        ({"steps": {"markup": {"links": "drop"}}}, "steps.markup.links: expected 'text' or 'keep', found 'drop'"),
        ({"steps": {"width": {"letters": "perhaps"}}}, "steps.width.letters: expected a valid boolean"),
        ({"deduplicate": {"treshold": 0.9}}, "deduplicate.treshold; did you mean deduplicate.threshold?"),
        ({"executor": "slurm"}, "executor slurm needs a section slurm with at least its partition"),
        ({"executor": "ray"}, "executor: expected 'local' or 'slurm', found 'ray'"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(change: dict, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        load_recipe({**GOOD, **change}, "r.yaml")
    assert message in str(raised.value)


def test_all_that_is_wrong_is_said_at_once_with_lines() -> None:
    text = "inputs:\n  - path: a\nsteps:\n  lenght:\n  width:\n    letter: true\nnmae: x\n"
    parsed = parse_yaml(text, "r.yaml")
    with pytest.raises(SettingError) as raised:
        load_recipe(parsed.value, "r.yaml", parsed.lines)
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == [
        "r.yaml line 4",
        "r.yaml line 6",
        "r.yaml line 7",
    ]


def test_something_that_is_no_recipe_is_refused() -> None:
    with pytest.raises(SettingError, match=r"r\.yaml: expected a recipe with inputs and steps, found NoneType"):
        load_recipe(None, "r.yaml")


def test_a_step_can_be_used_twice_under_labels() -> None:
    steps = {"length": {"minimum_characters": 1}, "markup": None, "length@end": {"minimum_characters": 9}}
    recipe = load_recipe({**GOOD, "steps": steps}, "r.yaml")
    assert list(recipe.steps) == ["length", "markup", "length@end"]
    assert type(recipe.steps["length@end"]) is STEPS["length"].settings


def test_every_setting_of_every_step_is_described() -> None:
    undescribed = [
        f"{name}.{key}"
        for name, kind in STEPS.items()
        for key, field in kind.settings.model_fields.items()
        if not field.description
    ]
    assert undescribed == []


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_recipes_that_come_with_zhgpt_are_right(file: Path) -> None:
    parsed = parse_yaml(file.read_text("utf-8"), file.name)
    assert load_recipe(parsed.value, file.name, parsed.lines).steps


def test_what_is_commented_out_in_the_recipe_for_the_web_is_right_too() -> None:
    text = (CONFIGS / "chinese_web.yaml").read_text("utf-8")
    opened = [line.replace("  # ", "  ", 1) if line.startswith("  # ") else line for line in text.splitlines()]
    parsed = parse_yaml("\n".join(opened), "chinese_web.yaml")
    assert set(load_recipe(parsed.value, "chinese_web.yaml", parsed.lines).steps) == set(STEPS)


def test_the_recipe_for_the_web_says_the_defaults() -> None:
    parsed = parse_yaml((CONFIGS / "chinese_web.yaml").read_text("utf-8"), "chinese_web.yaml")
    recipe = load_recipe(parsed.value, "chinese_web.yaml", parsed.lines)
    for label, settings in recipe.steps.items():
        assert settings == STEPS[label].settings(), label
