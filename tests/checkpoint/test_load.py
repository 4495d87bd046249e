"""What loading makes of DeepSpeed's silence; whole resumes are in tests/fault/."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zhgpt.checkpoint.layout import StepFolder
from zhgpt.checkpoint.load import load_checkpoint
from zhgpt.errors import BadDataError


def engine(loaded: str | None) -> Any:
    """An engine that restores betas of its own, as DeepSpeed does with the optimizer's state."""
    group: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    optimizer = SimpleNamespace(param_groups=[group], clip_grad=1.0)

    def load(folder: str, **options: Any) -> tuple[str | None, dict[str, Any]]:
        group.update(betas=(0.5, 0.6))
        optimizer.clip_grad = 9.0
        return loaded, {}

    return SimpleNamespace(optimizer=optimizer, load_checkpoint=load)


def test_an_engine_that_loads_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadDataError, match=f"{tmp_path}: DeepSpeed loaded nothing from engine/; use an older checkpoint"
    ):
        load_checkpoint(engine(None), StepFolder(tmp_path, 100))


def test_the_settings_of_this_start_are_put_back(tmp_path: Path) -> None:
    found = engine("engine")
    load_checkpoint(found, StepFolder(tmp_path, 100))
    assert found.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert found.optimizer.clip_grad == 1.0
