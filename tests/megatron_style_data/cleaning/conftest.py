"""Running one step on one text, small corpora, and recipes for them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.cleaning.measures import Outcome
from megatron_style_data.cleaning.recipe import Recipe, load_recipe
from megatron_style_data.cleaning.steps import STEPS

RunStep = Callable[..., Outcome]
WriteCorpus = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]

STORY = (
    "那年冬天，村里下了一场很大的雪，河面结了厚厚的冰。孩子们在冰上滑来滑去，笑声传得很远；"
    "老人坐在屋檐下晒太阳，说起从前的事情，谁家的牛走丢了，谁家的女儿嫁到了山那边。"
    "到了晚上，家家户户点起灯，锅里炖着白菜和豆腐，热气把窗户都蒙住了。"
)


@pytest.fixture
def run_step() -> RunStep:
    """Runs the step of that name with settings on a text: ``run_step("length", text, minimum_characters=10)``."""

    def run(name: str, text: str, fields: Mapping[str, Any] | None = None, **settings: Any) -> Outcome:
        kind = STEPS[name]
        return kind.prepare(kind.settings.model_validate(settings))(text, fields or {})

    return run


@pytest.fixture
def story() -> str:
    """About 130 characters of running Chinese that no step objects to."""
    return STORY


@pytest.fixture
def write_corpus(tmp_path: Path) -> WriteCorpus:
    """Writes records (or texts) as JSON lines."""

    def write(*records: str | Mapping[str, Any], name: str = "corpus.jsonl") -> Path:
        objects = [{"text": record} if isinstance(record, str) else dict(record) for record in records]
        path = tmp_path / name
        path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects), "utf-8")
        return path

    return write


@pytest.fixture
def make_recipe() -> MakeRecipe:
    """A recipe for one input with some steps."""

    def make(path: Path, steps: Mapping[str, Any] | None = None, **more: Any) -> Recipe:
        own = {"path": str(path), **more.pop("input", {})}
        return load_recipe({"inputs": [own], "steps": steps or {"length": None}, **more}, "recipe.yaml")

    return make


@pytest.fixture
def many_texts() -> list[str]:
    """300 different texts of running Chinese, among them short ones, repetitive ones and two duplicates."""
    texts = []
    for number in range(300):
        turned = STORY[number % 60 :] + STORY[: number % 60]
        texts.append(f"第{number}天，{'甲乙丙丁戊己庚辛壬癸'[number % 10]}说：" + turned + f"他数到{number * 7}。")
    texts[10] = "太短了。"
    texts[20] = "这个红包是给你的，快来领吧！" * 30
    texts[30] = "Only English words are written here, one after the other, and not one of them is Chinese. " * 3
    texts[40] = texts[41]
    return texts
