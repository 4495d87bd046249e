"""From a grid to variants: combinations, names, DeepSpeed JSONs."""

from pathlib import Path
from typing import Any

import pytest
from tiny import ROOT

from zhgpt.ablate.expand import Variant, expand, override_words
from zhgpt.ablate.grid import Grid
from zhgpt.ablate.loading import load_grid
from zhgpt.config.loading import load_run_config
from zhgpt.config.schema import RunConfig
from zhgpt.config.yaml_text import parse_yaml
from zhgpt.errors import SettingError

ZERO = {stage: str(ROOT / "ds_configs" / f"zero{stage}.json") for stage in range(4)}


def grid(**keys: Any) -> Grid:
    base = {"config": "recipe.yaml", "deepspeed": ZERO[1], "overrides": keys.pop("overrides", {})}
    return Grid.model_validate({"name": "g", "base": base, **keys})


def names(**keys: Any) -> list[str]:
    return [variant.name for variant in expand(grid(**keys))]


def test_axes_are_multiplied_and_named_by_their_last_word() -> None:
    assert names(axes={"optim.learning_rate": [1e-3, 0.01], "model.hidden_size": [32, 64]}) == [
        "learning_rate=0.001_hidden_size=32",
        "learning_rate=0.001_hidden_size=64",
        "learning_rate=0.01_hidden_size=32",
        "learning_rate=0.01_hidden_size=64",
    ]


def test_axes_with_the_same_last_word_are_named_in_full() -> None:
    axes = {"evaluate.every_steps": [4], "log.every_steps": [1]}
    assert names(axes=axes) == ["evaluate.every_steps=4_log.every_steps=1"]


def test_an_axis_over_a_name_is_called_after_its_section() -> None:
    assert names(axes={"optim.name": ["adamw"], "schedule.name": ["wsd"]}) == ["optim=adamw_schedule=wsd"]


def test_the_values_of_an_axis_can_have_names() -> None:
    variants = expand(grid(axes={"optim.betas": {"usual": [0.9, 0.95], "long": [0.9, 0.99]}}))
    assert [(variant.name, variant.overrides) for variant in variants] == [
        ("usual", {"optim.betas": [0.9, 0.95]}),
        ("long", {"optim.betas": [0.9, 0.99]}),
    ]


def test_named_variants_are_combined_with_axes() -> None:
    keys = {"variants": {"a": {"model.hidden_size": 32}, "b": {}}, "axes": {"train.precision": ["fp32", "bf16"]}}
    assert names(**keys) == ["a_precision=fp32", "a_precision=bf16", "b_precision=fp32", "b_precision=bf16"]


def test_a_grid_without_axes_and_variants_is_its_base() -> None:
    assert names() == ["base"]


def test_whole_jsons_are_named_by_their_file() -> None:
    variants = expand(grid(axes={"deepspeed": [ZERO[0], ZERO[3]]}))
    assert [(v.name, v.deepspeed_json["zero_optimization"]["stage"]) for v in variants] == [("zero0", 0), ("zero3", 3)]


def test_single_keys_of_the_json_are_set_on_top_of_it_and_null_removes_one() -> None:
    (variant,) = expand(
        grid(
            overrides={"deepspeed.wall_clock_breakdown": True},
            variants={"a": {"deepspeed.zero_optimization.overlap_comm": None, "deepspeed.zero_optimization.stage": 2}},
        )
    )
    assert variant.deepspeed_json["wall_clock_breakdown"] is True
    assert variant.deepspeed_json["zero_optimization"]["stage"] == 2
    assert "overlap_comm" not in variant.deepspeed_json["zero_optimization"]
    assert variant.overrides == {}


def test_a_key_that_the_json_cannot_have_is_refused_with_the_variant() -> None:
    with pytest.raises(
        SettingError, match=r"variant stage=2_x: deepspeed: unknown key zero_optimization\.stag; did you"
    ):
        expand(grid(axes={"deepspeed.zero_optimization.stage": [2], "deepspeed.zero_optimization.stag": {"x": 1}}))


def test_excluded_combinations_are_left_out() -> None:
    axes = {"train.precision": ["fp32", "bf16"], "model.hidden_size": [32, 64]}
    unwanted = [{"train.precision": "bf16", "model.hidden_size": 64}]
    assert names(axes=axes, exclude=unwanted) == [
        "precision=fp32_hidden_size=32",
        "precision=fp32_hidden_size=64",
        "precision=bf16_hidden_size=32",
    ]
    with pytest.raises(SettingError, match="every variant is excluded"):
        names(axes=axes, exclude=[{}])


def test_two_variants_of_one_name_are_refused() -> None:
    with pytest.raises(SettingError, match="two variants would be called train=zh"):
        names(axes={"data.train": ["a/zh", "b/zh"]})


def test_an_unknown_baseline_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingError, match="baseline denze is none of the variants; did you mean dense"):
        names(variants={"dense": {}, "moe": {}}, baseline="denze")


def test_what_the_ablation_fills_in_cannot_be_set() -> None:
    with pytest.raises(SettingError, match=r"run\.seed cannot be set in a grid: list seeds instead"):
        names(axes={"run.seed": [1, 2]})
    with pytest.raises(SettingError, match=r"launch\.world_size cannot be set in a grid"):
        names(overrides={"launch.world_size": 2})


def test_overrides_survive_the_command_line() -> None:
    values = {"a.b": "true", "a.c": [0.9, 1e-5], "a.d": None, "a.e": "路径/x: y", "a.f": {"k": 1}}
    read = {
        key: parse_yaml(text, "").value for key, _, text in (word.partition("=") for word in override_words(values))
    }
    assert read == values


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_grid_expands(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    loaded = load_grid(path)
    assert len(expand(loaded)) >= 2 or loaded.search is not None
    assert loaded.question
    assert len(loaded.seeds) >= 3 or "This is the screen" in path.read_text(encoding="utf-8")


def config_of(variant: Variant) -> RunConfig:
    return load_run_config(ROOT / "configs" / "demo.yaml", override_words(variant.overrides))


def test_a_section_that_may_be_left_out_is_made_by_its_keys_and_unmade_by_null() -> None:
    base = {"model.moe.num_experts": 8, "model.moe.num_experts_per_tok": 1}
    variants = {"eight": {}, "four": {"model.moe.num_experts": 4}, "dense": {"model.moe": None}}
    eight, four, dense = (config_of(variant).model.moe for variant in expand(grid(overrides=base, variants=variants)))
    assert dense is None
    assert eight is not None
    assert four is not None
    assert [(moe.num_experts, moe.num_experts_per_tok) for moe in (eight, four)] == [(8, 1), (4, 1)]


def test_a_whole_section_of_a_variant_undoes_single_keys_of_the_base() -> None:
    base = {"model.moe": {"num_experts": 2}, "model.moe.num_experts": 8}
    (variant,) = expand(grid(overrides=base, variants={"four": {"model.moe": {"num_experts": 4}}}))
    moe = config_of(variant).model.moe
    assert moe is not None
    assert moe.num_experts == 4


def test_an_axis_sets_a_nested_key_of_every_variant() -> None:
    keys = {"variants": {"top1": {"model.moe.num_experts_per_tok": 1}}, "axes": {"model.moe.num_experts": [4, 16]}}
    assert [(v.name, config_of(v).model.moe.num_experts) for v in expand(grid(**keys))] == [  # type: ignore[union-attr]
        ("top1_num_experts=4", 4),
        ("top1_num_experts=16", 16),
    ]


def test_the_ladder_of_mixtures_has_the_active_width_of_the_dense_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    dense, *mixtures = expand(load_grid(ROOT / "configs" / "ablations" / "moe_ladder.yaml"))
    assert config_of(dense).model.moe is None
    assert len(mixtures) == 9
    for variant in mixtures:
        model = config_of(variant).model
        assert model.moe is not None
        assert model.moe.num_experts_per_tok * (model.moe.moe_intermediate_size or 0) == model.intermediate_size
