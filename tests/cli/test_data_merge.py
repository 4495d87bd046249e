"""``zhgpt data merge``, ``split`` and builds in shares as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_style_data.manifest import load_manifest
from megatron_style_data.tokenizer import train_bpe

TEXTS = [f"第{number}篇。村民们都很高兴，在田里唱歌。国家保护公民的权利。" for number in range(50)]


def zhgpt_data(*words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "zhgpt.cli.main", "data", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A build's command without its output."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    train_bpe(TEXTS, 350, folder / "tokenizer")
    return ["build", "--input", folder / "corpus.jsonl", "--tokenizer", folder / "tokenizer", "--output"]


def test_shares_are_put_together(build: list[object], tmp_path: Path) -> None:
    refused = zhgpt_data(*build, tmp_path / "d", "--assemble", code=74).stderr
    assert "1 of 1 units are not there" in refused
    told = zhgpt_data(*build, tmp_path / "d", "--share", "1/1").stdout
    assert "share 1 of 1: 50 documents; when all are done, run this with --assemble" in told
    assert "documents             50" in zhgpt_data(*build, tmp_path / "d", "--assemble").stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--share", "1"], "--share 1: expected K/N, such as 1/3"),
        (["--share", "3/2"], "share 3/2: expected a number from 1 to 2"),
        (["--share", "1/2", "--assemble"], "--share, --assemble and --mpi exclude one another"),
    ],
)
def test_shares_that_cannot_be_are_refused(
    build: list[object], tmp_path: Path, words: list[str], sentence: str
) -> None:
    assert sentence in zhgpt_data(*build, tmp_path / "d", *words, code=2).stderr


def test_datasets_are_merged_and_cut(build: list[object], tmp_path: Path) -> None:
    zhgpt_data(*build, tmp_path / "a", "--shuffle-documents")
    zhgpt_data(*build, tmp_path / "b", "--valid-fraction", "0")
    assert "merged" in zhgpt_data("merge", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "c").stdout
    assert "c: whole; 100 documents" in zhgpt_data("verify", tmp_path / "c").stdout
    zhgpt_data("split", tmp_path / "c", "--output", tmp_path / "c", "--valid-fraction", "0.1", "--force")
    assert load_manifest(tmp_path / "c").splits["valid"].documents in (10, 11)
    zhgpt_data("split", tmp_path / "b", "--documents", "20", "--output", tmp_path / "d", "--rest", tmp_path / "e")
    assert load_manifest(tmp_path / "e").splits["train"].documents == 30
    refused = zhgpt_data("split", tmp_path / "b", "--output", tmp_path / "f", code=2).stderr
    assert "give --valid-fraction and --test-fraction to hold out other documents" in refused
