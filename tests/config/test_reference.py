"""docs/configuration.md is made from the schema."""

from pathlib import Path

import pytest

from zhgpt.config.problems import dotted_keys, section_model
from zhgpt.config.reference import DERIVED_DEFAULTS, main, settings_table, with_tables
from zhgpt.config.schema import RunConfig
from zhgpt.errors import MissingInputError, SettingError

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
COMMAND = "run: python -m zhgpt.config.reference docs/configuration.md"


def test_the_page_shows_the_schema_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, COMMAND


@pytest.mark.parametrize("key", dotted_keys())
def test_every_setting_is_on_the_page(key: str) -> None:
    assert f"| `{key}` |" in PAGE.read_text(encoding="utf-8"), COMMAND


def test_every_setting_and_section_is_described() -> None:
    for section in RunConfig.model_fields:
        model = section_model(section)
        assert model is not None
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert field.description, f"{section}.{name} has no docstring"
            assert field.description.endswith("."), f"{section}.{name}"


def test_rows_show_type_limits_default_and_meaning() -> None:
    table = settings_table()
    assert "| `train.steps` | whole number > 0 | **required** | Optimizer steps of the run. |" in table
    assert "| `schedule.minimum_ratio` | number ≥ 0, ≤ 1 | `0.02` |" in table
    assert "| `train.precision` | `fp32`, `bf16`, `fp16` | `bf16` |" in table
    assert "| `optim.betas` | 2 numbers | [`0.9`, `0.95`] |" in table
    assert "| `run.dir` | path | left out |" in table
    assert "| `log.wandb` | true or false | `false` |" in table
    assert "| `schedule.warmup_steps` | whole number ≥ 0 | 2 % of `train.steps` |" in table


def test_derived_defaults_are_settings() -> None:
    assert set(DERIVED_DEFAULTS) <= set(dotted_keys())


def test_the_command_fills_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        PAGE.read_text(encoding="utf-8").replace("| `train.steps` |", "| `train.stairs` |"), encoding="utf-8"
    )
    main([str(page)])
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(
        SettingError, match="the page has no place for the table settings: add <!-- table: settings -->"
    ):
        with_tables("nothing")


def test_a_missing_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none.md: no such page"):
        main([str(tmp_path / "none.md")])


def test_the_command_wants_one_page() -> None:
    with pytest.raises(SettingError, match="expected one argument, the page"):
        main([])
