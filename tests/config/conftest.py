"""Small files and values that the tests of the configuration share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zhgpt.config.loading import load_run_config
from zhgpt.config.schema import RunConfig
from zhgpt.errors import SettingError

SMALL = """\
data:
  train: data/zh
  sequence_length: 128
train:
  steps: 100
  global_batch_size: 16
  micro_batch_size: 4
  precision: fp32
"""

LoadText = Callable[..., RunConfig]
Refusal = Callable[..., str]


@pytest.fixture
def load_text(tmp_path: Path) -> LoadText:
    """Loads a RunConfig from YAML text and overrides; without text, a small complete one."""

    def load(*overrides: str, text: str = SMALL) -> RunConfig:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load_run_config(path, overrides)

    return load


@pytest.fixture
def refusal(load_text: LoadText, tmp_path: Path) -> Refusal:
    """The message that loading YAML text with overrides ends with, the folder's name taken out."""

    def refuse(*overrides: str, text: str = SMALL) -> str:
        with pytest.raises(SettingError) as caught:
            load_text(*overrides, text=text)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refuse


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a value, or literal text, as a DeepSpeed JSON."""

    def write(content: Any) -> Path:
        path = tmp_path / "ds.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write
