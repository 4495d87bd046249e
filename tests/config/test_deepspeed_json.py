"""The JSON that DeepSpeed gets: every value stated, nothing left to a silent default."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.deepspeed_json import (
    choose_offload_adam,
    compose_deepspeed_config,
    composition_notes,
    load_deepspeed_json,
)
from zhgpt.config.schema import RunConfig
from zhgpt.config.zero_rules import Accelerator
from zhgpt.errors import SettingError

LoadText = Callable[..., RunConfig]
SHIPPED = Path(__file__).parents[2] / "ds_configs"
OFFLOAD = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


def composed(config: RunConfig, ds_json: dict[str, Any], accelerator: Accelerator = "cuda") -> dict[str, Any]:
    return compose_deepspeed_config(config, ds_json, plan_batch(config, 2), accelerator=accelerator)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inside in value.values():
            yield from leaves(inside)
    else:
        yield value


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_batch_clipping_tags_and_silence_are_always_stated(load_text: LoadText, stage: int) -> None:
    config = load_text("optim.gradient_clipping=0")
    result = composed(config, {"zero_optimization": {"stage": stage}})
    assert result["train_batch_size"] == 16
    assert result["train_micro_batch_size_per_gpu"] == 4
    assert result["gradient_accumulation_steps"] == 2
    assert result["gradient_clipping"] == 0.0
    assert result["checkpoint"] == {"tag_validation": "Fail"}
    assert result["steps_per_print"] > 10**8
    assert result["zero_optimization"]["stage"] == stage


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_clips_only_where_it_holds_partitions(load_text: LoadText, stage: int) -> None:
    config, ds_json = load_text("optim.gradient_clipping=0.5"), {"zero_optimization": {"stage": stage}}
    assert composed(config, ds_json)["gradient_clipping"] == (0.5 if stage else 0.0)
    assert any("zhgpt clips the gradients itself" in note for note in composition_notes(config, ds_json)) == (
        stage == 0
    )


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_zero_1_to_3_accumulate_gradients_in_fp32(load_text: LoadText, stage: int, precision: str) -> None:
    result = composed(load_text(f"train.precision={precision}"), {"zero_optimization": {"stage": stage}})
    assert result["data_types"] == {"grad_accum_dtype": "fp32"}
    assert result["bf16"]["enabled"] is (precision == "bf16")
    assert result["fp16"]["enabled"] is (precision == "fp16")
    assert "torch_autocast" not in result


def test_zero_1_in_bf16_adds_gradients_to_their_fp32_sum_as_they_are_made(load_text: LoadText) -> None:
    bf16 = [
        composed(load_text("train.precision=bf16"), {"zero_optimization": {"stage": stage}})["bf16"] for stage in (1, 2)
    ]
    assert [block.get("immediate_grad_update") for block in bf16] == [True, None]


def test_fp16_scales_its_loss_dynamically(load_text: LoadText) -> None:
    block = composed(load_text("train.precision=fp16"), {"zero_optimization": {"stage": 2}})["fp16"]
    assert block["loss_scale"] == 0
    assert block["initial_scale_power"] == 16


def test_zero_0_in_bf16_is_fp32_weights_under_autocast(load_text: LoadText) -> None:
    result = composed(load_text("train.precision=bf16"), {})
    assert result["torch_autocast"] == {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    assert result["bf16"] == result["fp16"] == {"enabled": False}
    assert "data_types" not in result


def test_zero_0_in_fp32_is_plain(load_text: LoadText) -> None:
    result = composed(load_text(), {})
    assert "torch_autocast" not in result
    assert result["zero_optimization"] == {"stage": 0}


def test_offload_lets_our_adam_through(load_text: LoadText) -> None:
    assert composed(load_text(), OFFLOAD)["zero_force_ds_cpu_optimizer"] is False
    assert "zero_force_ds_cpu_optimizer" not in composed(load_text(), {"zero_optimization": {"stage": 2}})


def test_what_the_user_wrote_is_kept_and_not_changed(load_text: LoadText) -> None:
    ds_json = {"zero_optimization": {"stage": 2, "overlap_comm": True}, "wall_clock_breakdown": True}
    before = deepcopy(ds_json)
    result = composed(load_text(), ds_json)
    assert result["wall_clock_breakdown"] is True
    result["zero_optimization"]["overlap_comm"] = False
    assert ds_json == before


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_is_left_to_be_filled_in(load_text: LoadText, path: Path, precision: str) -> None:
    result = composed(load_text(f"train.precision={precision}"), load_deepspeed_json(path))
    assert "auto" not in list(leaves(result))
    assert None not in list(leaves(result))


def test_a_run_that_does_not_fit_is_refused_with_all_reasons(load_text: LoadText) -> None:
    ds_json = {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 3}}
    with pytest.raises(SettingError) as caught:
        composed(load_text("train.precision=fp16"), ds_json, "cpu")
    assert str(caught.value).splitlines() == [
        "train.precision fp16 does not run on the CPU; take bf16 or fp32",
        "zero_optimization.zero_hpz_partition_size 3 does not divide world size 2; these do: 1, 2",
    ]


@pytest.mark.parametrize(
    ("accelerator", "problem", "note"),
    [
        (
            "cpu",
            None,
            "the optimizer is offloaded and torch.optim.AdamW computes the step: on the CPU it needs no C++ build and "
            "nothing leaves the device anyway",
        ),
        (
            "cuda",
            None,
            "the optimizer is offloaded and DeepSpeedCPUAdam computes the step: its vectorised C++ step can be built here",
        ),
        (
            "cuda",
            "no g++ on PATH",
            "the optimizer is offloaded and torch.optim.AdamW computes the step: DeepSpeedCPUAdam cannot be built here: no "
            "g++ on PATH",
        ),
    ],
)
def test_offload_says_which_adam_and_why(accelerator: Accelerator, problem: str | None, note: str) -> None:
    adam = choose_offload_adam(OFFLOAD, accelerator=accelerator, cpu_adam_problem=problem)
    assert str(adam) == note
    assert adam is not None
    assert adam.name in note


def test_nothing_offloaded_needs_no_choice() -> None:
    assert choose_offload_adam({}, accelerator="cuda", cpu_adam_problem=None) is None


def test_partial_offload_without_deepspeeds_adam_is_refused() -> None:
    ds_json = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}}
    with pytest.raises(SettingError) as caught:
        choose_offload_adam(ds_json, accelerator="cuda", cpu_adam_problem="no g++ on PATH")
    assert str(caught.value) == (
        "zero_optimization.offload_optimizer.ratio below 1 needs DeepSpeedCPUAdam, which cannot be built here: no g++ on "
        "PATH; remove ratio or install what is missing"
    )


def test_notes_say_where_the_composition_is_not_what_it_looks_like(load_text: LoadText) -> None:
    bf16 = load_text("train.precision=bf16", "optim.name=adamw")
    own_clipping = "ZeRO-0: zhgpt clips the gradients itself, by their norm in float64; the JSON says 0"
    assert composition_notes(bf16, {}) == [
        own_clipping,
        "ZeRO-0 with bf16 runs as fp32 weights under torch autocast; ds_configs/zero1.json is plain bf16",
    ]
    assert composition_notes(bf16, {"zero_optimization": {"stage": 1}}) == [
        "ZeRO-1 with bf16 and fp32 gradient accumulation runs in DeepSpeed's BF16_Optimizer"
    ]
    assert composition_notes(bf16, {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}}) == []
    assert composition_notes(bf16, OFFLOAD) == []
    assert composition_notes(load_text("optim.name=adamw"), {}) == [own_clipping]
    assert composition_notes(load_text("optim.name=adamw", "optim.gradient_clipping=0"), {}) == []
