"""RunConfig from YAML and overrides: what it accepts, and the sentence for each thing it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from zhgpt.config import loading
from zhgpt.config.loading import find_run_dir, load_run_config, run_config_to_yaml
from zhgpt.config.schema import RunConfig
from zhgpt.errors import MissingInputError, SettingError, StorageError

LoadText = Callable[..., RunConfig]
Refusal = Callable[..., str]


def test_a_small_file_gets_the_defaults(load_text: LoadText) -> None:
    config = load_text()
    assert config.data.train == "data/zh"
    assert config.optim.learning_rate == "auto"
    assert config.optim.betas == (0.9, 0.95)
    assert config.model.model_type == "qwen3"
    assert config.run.run_dir == Path("runs/run")


def test_run_dir_follows_the_name_unless_it_is_given(load_text: LoadText) -> None:
    assert load_text("run.name=你好").run.run_dir == Path("runs/你好")
    assert load_text("run.dir=/data/z3").run.run_dir == Path("/data/z3")


def test_a_config_cannot_be_changed(load_text: LoadText) -> None:
    config = load_text()
    with pytest.raises(ValidationError, match="frozen"):
        config.train.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"), [("6e-4", 6e-4), ("3E-4", 3e-4), ("1e-05", 1e-5), ("1", 1.0), (".5", 0.5), ("+2.5e-4", 2.5e-4)]
)
def test_a_learning_rate_is_a_number_however_it_is_written(load_text: LoadText, text: str, value: float) -> None:
    assert load_text(f"optim.learning_rate={text}").optim.learning_rate == value


def test_an_override_takes_yaml_values(load_text: LoadText) -> None:
    config = load_text(
        "optim.betas=[0.8, 0.99]", "evaluate.prompts=[春天, 秋天]", "log.tensorboard=false", "run.dir=null"
    )
    assert config.optim.betas == (0.8, 0.99)
    assert config.evaluate.prompts == ("春天", "秋天")
    assert config.log.tensorboard is False


def test_the_last_override_of_a_key_counts(load_text: LoadText) -> None:
    assert load_text("train.steps=5", "train.steps=7").train.steps == 7


def test_an_override_may_open_a_section_that_the_file_lacks(load_text: LoadText) -> None:
    assert load_text("log.every_steps=3").log.every_steps == 3


def test_an_override_value_may_hold_an_equals_sign(load_text: LoadText) -> None:
    assert load_text("data.train=a=b").data.train == "a=b"


def test_a_round_float_is_a_whole_number(load_text: LoadText) -> None:
    assert load_text("train.steps=5e5", "schedule.warmup_steps=10").train.steps == 500_000


def test_an_empty_section_means_its_defaults(load_text: LoadText) -> None:
    text = "data: {train: x}\ntrain: {steps: 3, global_batch_size: 8}\noptim:\n  # learning_rate: 1e-3\n"
    assert load_text(text=text).optim.learning_rate == "auto"


def test_yaml_written_back_loads_to_an_equal_config(load_text: LoadText) -> None:
    config = load_text("optim.eps=1e-9", "run.dir=some/where", "evaluate.prompts=['有一天，他对我说：“']")
    assert load_text(text=run_config_to_yaml(config)) == config


def test_written_yaml_keeps_chinese_readable(load_text: LoadText) -> None:
    assert "村民们都很高兴，在" in run_config_to_yaml(load_text())


def test_resolve_model_is_found_beside_load_run_config() -> None:
    assert callable(loading.resolve_model)


def test_a_missing_file_names_the_configs_beside_it(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").touch()
    (tmp_path / ".hidden.yaml").touch()
    with pytest.raises(MissingInputError) as caught:
        load_run_config(tmp_path / "dmeo.yaml")
    assert str(caught.value) == f"{tmp_path}/dmeo.yaml: no such config file; there is {tmp_path}/demo.yaml"
    assert caught.value.exit_code == 66


def test_a_missing_file_in_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no such config file$"):
        load_run_config(tmp_path / "none" / "run.yaml")


def test_a_folder_is_not_a_config(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="is a folder; --config wants a YAML file"):
        load_run_config(tmp_path)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gbk.yaml"
    path.write_bytes("run: {name: 你}".encode("gbk"))
    with pytest.raises(SettingError, match=r"gbk.yaml: not UTF-8 at byte 12; save the file as UTF-8"):
        load_run_config(path)


def test_a_file_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        load_run_config(tmp_path / "file" / "run.yaml")
    assert str(caught.value) == f"{tmp_path}/file/run.yaml: cannot be read: Not a directory"


@pytest.mark.parametrize(("text", "found"), [("", "null"), ("- a", "a list of 1"), ("hello", "'hello'"), ("3", "3")])
def test_a_file_that_is_no_mapping_is_refused(refusal: Refusal, text: str, found: str) -> None:
    assert refusal(text=text) == f"run.yaml: expected sections (run, data, model, train …) with keys, found {found}"


@pytest.mark.parametrize("override", ["train.steps", "=3", "hello"])
def test_an_override_without_key_or_value_is_refused(refusal: Refusal, override: str) -> None:
    assert refusal(override) == f"override '{override}': expected key=value, as in train.steps=1000"


def test_an_override_of_a_whole_section_is_refused(refusal: Refusal) -> None:
    assert (
        refusal("optim={learning_rate: 1}")
        == "override optim={learning_rate: 1}: optim is a section; name one setting, as in optim.name=…"
    )


def test_an_override_that_is_not_yaml_is_refused(refusal: Refusal) -> None:
    assert refusal("optim.betas=[0.9").startswith("override optim.betas=[0.9 line 1, column 5: not YAML: ")


def test_an_override_under_a_section_that_is_no_section_is_refused(refusal: Refusal) -> None:
    assert "data: expected keys and values below it, found 3" in refusal("data.train=x", text="data: 3")


@pytest.mark.parametrize(
    ("text", "overrides", "run_dir"),
    [
        ("run: {name: a}\nno_such: 1\n", ("optim.learnin_rate=1",), "runs/a"),
        ("run: {name: a, dir: here, sed: 1}\n", ("run.name=b",), "here"),
        ("run: {name: a}\n", ("run.dir=there", "run.dir=elsewhere"), "elsewhere"),
        ("data: {}\n", (), "runs/run"),
        ("run:\n", ("run.name=b",), "runs/b"),
        ("run: [", ("run.dir=there",), "there"),
        ("run: [", ("run.name=b",), None),
        ("run: {dir: 5}\n", (), None),
        (None, ("run.dir=there", "nonsense"), "there"),
        (None, (), None),
    ],
)
def test_the_run_folder_is_found_in_spite_of_other_mistakes(
    tmp_path: Path, text: str | None, overrides: tuple[str, ...], run_dir: str | None
) -> None:
    if text is not None:
        (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    assert find_run_dir(tmp_path / "run.yaml", overrides) == (None if run_dir is None else Path(run_dir))
