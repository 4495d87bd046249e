"""A grid over the tiny recipe, and ablations whose runs are made up from numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_ablation import MadeUp, made_up_plan
from tiny import ROOT, Tiny

from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.plan import PlannedVariant, save_plan

MakeGrid = Callable[..., Path]


@pytest.fixture
def make_grid(tiny: Tiny, tmp_path: Path) -> MakeGrid:
    """Writes a grid file over the tiny recipe; keyword arguments are its keys."""

    def make(overrides: dict[str, Any] | None = None, **keys: Any) -> Path:
        quick = {"evaluate.prompts": [], "checkpoint.every_steps": 100, "checkpoint.keep_last": 1}
        base = {
            "config": str(tiny.recipe()),
            "deepspeed": str(ROOT / "ds_configs" / "zero1.json"),
            "overrides": {**quick, **(overrides or {})},
        }
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({"base": base, "seeds": [1], **keys}, sort_keys=False), encoding="utf-8")
        return path

    return make


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[..., MadeUp]:
    """Makes an ablation's folder with a plan and no runs."""

    def make(variants: Sequence[PlannedVariant], **keys: Any) -> MadeUp:
        folder = AblationFolder(tmp_path / "made-up")
        plan = made_up_plan(variants, **keys)
        save_plan(folder, plan)
        return MadeUp(folder, plan)

    return make
