"""The DeepSpeed JSON a user writes: what it may hold, and the sentence for each thing it may not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zhgpt.config.deepspeed_file import DEFAULT_DEEPSPEED_JSON, load_deepspeed_json
from zhgpt.config.ownership import REFUSED_IN_JSON, REFUSED_ZERO_KEYS, RUN_CONFIG_OWNS
from zhgpt.config.problems import dotted_keys
from zhgpt.errors import MissingInputError, SettingError, StorageError

WriteJson = Callable[[Any], Path]
SHIPPED = Path(__file__).parents[2] / "ds_configs"


def refusal(path: Path) -> str:
    with pytest.raises(SettingError) as caught:
        load_deepspeed_json(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_the_shipped_files_load(path: Path) -> None:
    assert load_deepspeed_json(path)["zero_optimization"]["stage"] == int(path.stem.partition("zero")[2][0])


def test_left_out_it_is_zero1_in_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHIPPED.parent)
    assert load_deepspeed_json() == load_deepspeed_json(SHIPPED / "zero1.json")


def test_left_out_and_not_there_names_the_flag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError) as caught:
        load_deepspeed_json()
    assert str(caught.value) == (
        f"{DEFAULT_DEEPSPEED_JSON} (the one taken when --deepspeed_config is not given): no such DeepSpeed JSON; name one "
        "with --deepspeed_config"
    )


def test_a_missing_file_names_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "zero2.json").touch()
    with pytest.raises(MissingInputError) as caught:
        load_deepspeed_json(tmp_path / "zero4.json")
    assert str(caught.value) == f"{tmp_path}/zero4.json: no such DeepSpeed JSON; there is {tmp_path}/zero2.json"


def test_a_folder_is_no_deepspeed_json(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such DeepSpeed JSON"):
        load_deepspeed_json(tmp_path)


def test_a_file_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        load_deepspeed_json(tmp_path / "file" / "ds.json")
    assert str(caught.value) == f"{tmp_path}/file/ds.json: cannot be read: Not a directory"


def test_an_empty_object_is_zero_stage_0(write_json: WriteJson) -> None:
    assert load_deepspeed_json(write_json({})) == {}


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_bytes('{"名": 1}'.encode("gbk"))
    assert refusal(path) == "ds.json: not UTF-8 at byte 2; save the file as UTF-8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ds.json line 1, column 1: not JSON: Expecting value; JSON has no comments and no last comma"),
        ("[]", "ds.json: expected an object ({…}) with keys, found a list of 0"),
        (
            '{"zero_optimization": {"stage": 1, "stage": 2}}',
            'ds.json: "stage" is given twice in one place; keep one',
        ),
        ('{"gradient_predivide_factor": NaN}', "ds.json: NaN is not a number that a setting can have"),
    ],
)
def test_what_is_not_a_json_object_is_refused(write_json: WriteJson, text: str, message: str) -> None:
    assert refusal(write_json(text)) == message


@pytest.mark.parametrize("text", ['{"a": 1,}', '{"a": 1} // why', "{'a': 1}"])
def test_json_with_comments_or_last_commas_is_refused_with_its_place(write_json: WriteJson, text: str) -> None:
    message = refusal(write_json(text))
    assert message.startswith("ds.json line 1, column ")
    assert message.endswith("; JSON has no comments and no last comma")


@pytest.mark.parametrize("key", RUN_CONFIG_OWNS)
def test_a_key_of_the_run_is_refused_with_the_key_to_use(write_json: WriteJson, key: str) -> None:
    assert refusal(write_json({key: 1})) == (
        f"ds.json: {key} belongs to the run's YAML, not to the DeepSpeed JSON: remove it and set {RUN_CONFIG_OWNS[key]}"
    )


@pytest.mark.parametrize("key", RUN_CONFIG_OWNS)
def test_the_key_to_use_exists(key: str) -> None:
    named = [word.strip("(),;").split("=")[0] for word in RUN_CONFIG_OWNS[key].split()]
    settings = [word for word in named if "." in word and not word.endswith(".jsonl")]
    assert settings
    assert set(settings) <= set(dotted_keys())


@pytest.mark.parametrize("key", REFUSED_IN_JSON)
def test_a_key_of_nobody_is_refused_with_the_reason(write_json: WriteJson, key: str) -> None:
    assert refusal(write_json({key: 1})) == f"ds.json: {key} cannot be set: {REFUSED_IN_JSON[key]}"


@pytest.mark.parametrize("key", REFUSED_ZERO_KEYS)
def test_a_refused_zero_key_says_the_reason(write_json: WriteJson, key: str) -> None:
    message = refusal(write_json({"zero_optimization": {"stage": 1, key: 1}}))
    assert message == f"ds.json: zero_optimization.{key} cannot be set: {REFUSED_ZERO_KEYS[key]}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"zero_optimisation": {}}, "unknown key zero_optimisation; did you mean zero_optimization?"),
        ({"zero_optimization": {"stge": 1}}, "unknown key zero_optimization.stge; did you mean zero_optimization.stage?"),
        (
            {"zero_optimization": {"prefetch_bucket_size": 1}},
            "unknown key zero_optimization.prefetch_bucket_size; did you mean "
            "zero_optimization.stage3_prefetch_bucket_size?",
        ),
        (
            {"zero_optimization": {"offload_optimizer": {"devise": "cpu"}}},
            "unknown key zero_optimization.offload_optimizer.devise; did you mean "
            "zero_optimization.offload_optimizer.device?",
        ),
        (
            {"aio": {"zzz": 1}},
            "unknown key aio.zzz; known here: block_size, queue_depth, intra_op_parallelism, single_submit, "
            "overlap_events, use_gds",
        ),
        ({"zero_optimization": True}, "zero_optimization: expected an object ({…}), found true"),
        ({"zero_optimization": {"stage": "2"}}, "zero_optimization.stage: expected a whole number, found '2'; take the "
         "quotation marks away"),
        ({"zero_optimization": {"stage": True}}, "zero_optimization.stage: expected a whole number, found true"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage must be 0, 1, 2 or 3, found 4"),
        ({"zero_optimization": {"stage": -1}}, "zero_optimization.stage: must be at least 0, found -1"),
        (
            {"zero_optimization": {"stage": 1, "reduce_bucket_size": "auto"}},
            "zero_optimization.reduce_bucket_size: expected a value, found 'auto': nothing fills it in here; write the "
            "number",
        ),
        (
            {"zero_optimization": {"stage": 1, "overlap_comm": 1}},
            "zero_optimization.overlap_comm: expected true or false, found 1",
        ),
        (
            {"zero_optimization": {"stage": 3, "leaf_module": {"names": "x"}}},
            "zero_optimization.leaf_module.names: expected a list of texts, found 'x'",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "gpu"}}},
            "zero_optimization.offload_optimizer.device: expected one of none, cpu, nvme, found 'gpu'",
        ),
        ({"communication_data_type": 16}, "communication_data_type: expected text, found 16"),
        ({"communication_data_type": "int8"}, "communication_data_type: expected one of fp32, bf16, fp16, found 'int8'"),
        ({"gradient_predivide_factor": "2"}, "gradient_predivide_factor: expected a number, found '2'; take the quotation "
         "marks away"),
        ({"flops_profiler": True}, "flops_profiler: expected an object ({…}), found true"),
    ],
)  # fmt: skip
def test_an_unknown_key_or_a_wrong_value_is_one_sentence(write_json: WriteJson, content: Any, message: str) -> None:
    assert refusal(write_json(content)) == f"ds.json: {message}"


def test_all_problems_are_told_at_once(write_json: WriteJson) -> None:
    message = refusal(write_json({"bf16": {}, "zero_optimization": {"stge": 1, "overlap_comm": 3}}))
    assert len(message.splitlines()) == 3


def test_every_key_that_is_allowed_loads(write_json: WriteJson) -> None:
    content = {
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8},
        "communication_data_type": "bf16",
        "aio": {"block_size": 1048576, "use_gds": False},
        "flops_profiler": {"enabled": True, "profile_step": 5, "module_depth": -1, "output_file": "flops.txt"},
        "comms_logger": {"enabled": True, "prof_ops": ["all_reduce"]},
        "wall_clock_breakdown": True,
        "memory_breakdown": False,
    }
    loaded = load_deepspeed_json(write_json(content))
    assert loaded == content
    assert type(loaded["zero_optimization"]["reduce_bucket_size"]) is int
