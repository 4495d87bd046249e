"""What cannot go together in a DeepSpeed JSON, or between it and a run."""

from collections.abc import Callable
from typing import Any

import pytest

from zhgpt.config.schema import RunConfig
from zhgpt.config.zero_rules import Accelerator, offload_device, run_problems, stage_problems, zero_stage

LoadText = Callable[..., RunConfig]
CPU = {"device": "cpu"}


def test_the_stage_of_a_json_without_zero_is_0() -> None:
    assert zero_stage({}) == zero_stage({"zero_optimization": {}}) == 0


def test_offload_devices_are_none_unless_given() -> None:
    assert offload_device({}, "offload_param") == "none"
    assert offload_device({"zero_optimization": {"offload_param": {}}}, "offload_param") == "none"
    assert offload_device({"zero_optimization": {"offload_optimizer": CPU}}, "offload_optimizer") == "cpu"


NEEDS = "change the stage or remove the key"
STAGE_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    (
        {"stage": 2, "offload_param": CPU},
        f"zero_optimization.offload_param needs stage 3, this file has stage 2; {NEEDS}",
    ),
    (
        {"stage": 0, "offload_optimizer": CPU},
        f"zero_optimization.offload_optimizer needs stage 1, 2 or 3, this file has stage 0; {NEEDS}",
    ),
    (
        {"stage": 1, "stage3_max_live_parameters": 1},
        f"zero_optimization.stage3_max_live_parameters needs stage 3, this file has stage 1; {NEEDS}",
    ),
    (
        {"stage": 3, "round_robin_gradients": True},
        f"zero_optimization.round_robin_gradients needs stage 1 or 2, this file has stage 3; {NEEDS}",
    ),
    (
        {"stage": 2, "zero_quantized_weights": True},
        f"zero_optimization.zero_quantized_weights needs stage 3, this file has stage 2; {NEEDS}",
    ),
    (
        {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/nvme"}},
        "zero_optimization.offload_optimizer.device nvme needs stage 3, this file has stage 2",
    ),
    (
        {"stage": 3, "offload_param": {"device": "nvme"}},
        "zero_optimization.offload_param.device nvme needs nvme_path, a folder on a local disk",
    ),
    (
        {"stage": 3, "offload_optimizer": {"device": "cpu", "super_offload": True}},
        "zero_optimization.offload_optimizer: super_offload and cpuadam_cores_perc are for Grace Hopper and replace the "
        "optimizer, which is not supported; remove them",
    ),
    (
        {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 1.5}},
        "zero_optimization.offload_optimizer.ratio must be between 0 and 1, found 1.5",
    ),
    (
        {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}},
        "zero_optimization.offload_optimizer.ratio 0.5 (partial offload) needs stage 3, this file has stage 2",
    ),
]


@pytest.mark.parametrize(("zero", "sentence"), STAGE_PROBLEMS)
def test_a_key_that_the_stage_cannot_use_is_refused(zero: dict[str, Any], sentence: str) -> None:
    assert stage_problems({"zero_optimization": zero}) == [sentence]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"zero_optimization": {"stage": 3}, "prescale_gradients": True},
            "prescale_gradients does not work with ZeRO stage 3 in DeepSpeed; remove it",
        ),
        (
            {"zero_optimization": {"stage": 1}, "gradient_predivide_factor": 2},
            'gradient_predivide_factor works with ZeRO stage 1 only without reduce scatter: add "reduce_scatter": false '
            "to zero_optimization, or remove it",
        ),
        ({"gradient_predivide_factor": 0}, "gradient_predivide_factor must be greater than 0, found 0"),
        (
            {"prescale_gradients": True, "gradient_predivide_factor": 2},
            "gradient_predivide_factor has no effect with prescale_gradients; remove one of them",
        ),
    ],
)
def test_gradient_scaling_that_deepspeed_would_get_wrong_is_refused(content: dict[str, Any], sentence: str) -> None:
    assert stage_problems(content) == [sentence]


@pytest.mark.parametrize(
    "content",
    [
        {"prescale_gradients": True},
        {"prescale_gradients": False, "gradient_predivide_factor": 1.0, "zero_optimization": {"stage": 3}},
        {"gradient_predivide_factor": 2, "zero_optimization": {"stage": 2, "reduce_scatter": False}},
        {"zero_optimization": {"stage": 3, "offload_optimizer": CPU, "offload_param": CPU}},
        {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/nvme"}}},
        {"zero_optimization": {"stage": 1, "offload_optimizer": CPU}},
    ],
)
def test_what_goes_together_is_accepted(content: dict[str, Any]) -> None:
    assert stage_problems(content) == []


RUN_PROBLEMS: list[tuple[str, dict[str, Any], Accelerator, str]] = [
    (
        "fp16",
        {"zero_optimization": {"stage": 1}},
        "cpu",
        "train.precision fp16 does not run on the CPU; take bf16 or fp32",
    ),
    (
        "fp16",
        {},
        "cuda",
        "train.precision fp16 with ZeRO stage 0 would accumulate gradients in fp16; take stage 1 (ds_configs/zero1.json) or "
        "bf16",
    ),
    (
        "bf16",
        {"communication_data_type": "fp16"},
        "cuda",
        "communication_data_type fp16 with train.precision bf16: gradients past 65504 would become infinite; take bf16 or "
        "fp32",
    ),
    (
        "bf16",
        {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 4}},
        "cuda",
        "zero_optimization.zero_hpz_partition_size 4 does not divide world size 6; these do: 1, 2, 3, 6",
    ),
    (
        "bf16",
        {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 0}},
        "cuda",
        "zero_optimization.zero_hpz_partition_size 0 does not divide world size 6; these do: 1, 2, 3, 6",
    ),
    (
        "bf16",
        {"zero_optimization": {"stage": 3, "zero_quantized_weights": True}},
        "cpu",
        "zero_optimization.zero_quantized_weights needs a GPU: its kernels are CUDA's",
    ),
    (
        "bf16",
        {"zero_optimization": {"stage": 3, "zero_quantized_gradients": True, "reduce_scatter": False}},
        "cuda",
        "zero_optimization.zero_quantized_gradients needs reduce_scatter; remove one of them",
    ),
    (
        "bf16",
        {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}},
        "cpu",
        "zero_optimization.offload_optimizer.ratio below 1 keeps a part on the GPU, and there is none",
    ),
    ("bf16", {"aio": {"use_gds": True}}, "cpu", "aio.use_gds (GPU direct storage) needs a GPU"),
]


@pytest.mark.parametrize(("precision", "ds_json", "accelerator", "sentence"), RUN_PROBLEMS)
def test_a_run_that_does_not_go_with_the_json_is_refused(
    load_text: LoadText, precision: str, ds_json: dict[str, Any], accelerator: Accelerator, sentence: str
) -> None:
    assert run_problems(load_text(f"train.precision={precision}", "optim.name=adamw"), ds_json, 6, accelerator) == [
        sentence
    ]


def test_fp16_on_a_gpu_with_zero_is_accepted(load_text: LoadText) -> None:
    ds_json = {"zero_optimization": {"stage": 1}, "communication_data_type": "fp16"}
    assert run_problems(load_text("train.precision=fp16"), ds_json, 2, "cuda") == []


def test_blocks_are_not_compiled_where_zero_3_gathers_their_weights(load_text: LoadText) -> None:
    config = load_text("train.compile=blocks")
    (sentence,) = run_problems(config, {"zero_optimization": {"stage": 3}}, 2, "cuda")
    assert sentence.startswith("train.compile blocks with ZeRO stage 3: its hooks gather weights block by block")
    assert run_problems(config, {"zero_optimization": {"stage": 2}}, 2, "cuda") == []


MUON_PROBLEMS: list[tuple[dict[str, Any], str]] = [
    (
        {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/nvme"}},
        "optim.name muon does not go with zero_optimization.offload_optimizer.device nvme; take cpu "
        "(ds_configs/zero3_offload.json), or optim.name=adamw",
    ),
    (
        {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}},
        "optim.name muon does not go with zero_optimization.offload_optimizer.ratio 0.5 (partial offload), where DeepSpeed "
        "steps a part with an optimizer of its own; remove ratio, or take optim.name=adamw",
    ),
]


@pytest.mark.parametrize(("zero", "sentence"), MUON_PROBLEMS)
def test_muon_is_refused_where_its_vectors_are_not_whole_in_memory(
    load_text: LoadText, zero: dict[str, Any], sentence: str
) -> None:
    ds_json = {"zero_optimization": zero}
    assert run_problems(load_text("optim.name=muon"), ds_json, 2, "cuda") == [sentence]
    assert run_problems(load_text("optim.name=adamw"), ds_json, 2, "cuda") == []


@pytest.mark.parametrize("device", ["none", "cpu"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_muon_goes_with_every_stage_and_offload_to_the_cpu(load_text: LoadText, stage: int, device: str) -> None:
    ds_json = {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": device}}}
    assert run_problems(load_text("optim.name=muon"), ds_json, 2, "cuda") == []
