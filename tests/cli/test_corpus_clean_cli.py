"""`zhgpt corpus clean`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest

from zhgpt.cli.main import main

STORY = (
    "那年冬天，村里下了一场很大的雪，河面结了厚厚的冰。孩子们在冰上滑来滑去，笑声传得很远；"
    "老人坐在屋檐下晒太阳，说起从前的事情。"
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe for a corpus of three texts."""
    texts = [STORY, "短。", STORY.replace("雪", "雨") + "他们都回家了。"]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(f"inputs:\n  - path: {corpus}\nsteps:\n  length:\n    minimum_characters: 10\n", "utf-8")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["zhgpt", "corpus", "clean", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_it_prints_what_each_step_dropped_and_where_to_look(recipe, tmp_path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, recipe, "--output", tmp_path / "out", "--workers", 1) == 0
    said = capsys.readouterr().out
    assert "read                         3  documents" in said
    assert "length                      -1  (33.33 %)" in said
    assert "kept                         2  documents" in said
    assert "corpus.html to look at" in said
    assert (tmp_path / "out" / "corpus.html").exists()


def test_overrides_go_before_the_recipe(recipe, tmp_path, monkeypatch, capsys) -> None:
    words = ["steps.length.minimum_characters=1", "steps.width.letters=false", f"output={tmp_path / 'there'}"]
    assert run(monkeypatch, recipe, *words, "--workers", 1) == 0
    assert "kept                         3  documents" in capsys.readouterr().out
    record = json.loads((tmp_path / "there" / "corpus.json").read_bytes())
    assert record["recipe"]["steps"]["width"]["letters"] is False


def test_explain_writes_nothing(recipe, tmp_path, monkeypatch, capsys) -> None:
    before = sorted(tmp_path.iterdir())
    assert run(monkeypatch, recipe, "--explain", f"{tmp_path / 'corpus.jsonl'}:2") == 0
    assert "verdict: dropped by length: characters < 10, measured 2" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


def test_the_tables_near_the_threshold_are_written(recipe, tmp_path, monkeypatch) -> None:
    assert run(monkeypatch, recipe, "--output", tmp_path / "out", "--workers", 1, "--near-threshold", 5) == 0
    assert "| 2 | 短。 |" in (tmp_path / "out" / "near_threshold" / "length.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--workers", "1"], 2, "no output; name a folder with --output"),
        (["--output", "x", "length"], 2, "override length: expected KEY=VALUE"),
        (["--output", "x", "inputs.0.path=a"], 2, "inputs holds no settings by name; change it in the recipe"),
        (["--output", "x", "steps.lenght=1"], 2, "unknown step lenght; did you mean length?"),
    ],
)
def test_what_it_refuses(recipe, tmp_path, monkeypatch, capsys, words, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, recipe, *words) == code
    assert message in capsys.readouterr().err


def test_a_recipe_that_is_missing_or_not_utf8_is_named(tmp_path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, tmp_path / "none.yaml") == 66
    assert "no such recipe; configs/corpus has some" in capsys.readouterr().err
    (tmp_path / "gbk.yaml").write_bytes("name: 中文".encode("gbk"))
    assert run(monkeypatch, tmp_path / "gbk.yaml") == 65
    assert "byte 6 is not UTF-8" in capsys.readouterr().err
