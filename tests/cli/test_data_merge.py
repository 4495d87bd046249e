"""``zhgpt data merge``, ``split`` and builds in shares as a user runs them."""

import json
from pathlib import Path

import pytest
from commands import zhgpt

from megatron_style_data.manifest import load_manifest
from megatron_style_data.tokenizer import train_bpe

TEXTS = [f"第{number}篇。村民们都很高兴，在田里唱歌。国家保护公民的权利。" for number in range(50)]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A build's command without its output."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    train_bpe(TEXTS, 350, folder / "tokenizer")
    return ["build", "--input", folder / "corpus.jsonl", "--tokenizer", folder / "tokenizer", "--output"]


def test_shares_are_put_together(build: list[object], tmp_path: Path) -> None:
    refused = zhgpt("data", *build, tmp_path / "d", "--assemble", code=74).stderr
    assert "1 of 1 units are not there" in refused
    told = zhgpt("data", *build, tmp_path / "d", "--share", "1/1").stdout
    assert "share 1 of 1: 50 documents; when all are done, run this with --assemble" in told
    assert "documents             50" in zhgpt("data", *build, tmp_path / "d", "--assemble").stdout


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
    assert sentence in zhgpt("data", *build, tmp_path / "d", *words, code=2).stderr


def test_datasets_are_merged_and_cut(build: list[object], tmp_path: Path) -> None:
    zhgpt("data", *build, tmp_path / "a", "--shuffle-documents")
    zhgpt("data", *build, tmp_path / "b", "--valid-fraction", "0")
    assert "merged" in zhgpt("data", "merge", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "c").stdout
    assert "c: whole; 100 documents" in zhgpt("data", "verify", tmp_path / "c").stdout
    zhgpt("data", "split", tmp_path / "c", "--output", tmp_path / "c", "--valid-fraction", "0.1", "--force")
    assert load_manifest(tmp_path / "c").splits["valid"].documents in (10, 11)
    zhgpt("data", "split", tmp_path / "b", "--documents", "20", "--output", tmp_path / "d", "--rest", tmp_path / "e")
    assert load_manifest(tmp_path / "e").splits["train"].documents == 30
    refused = zhgpt("data", "split", tmp_path / "b", "--output", tmp_path / "f", code=2).stderr
    assert "give --valid-fraction and --test-fraction to hold out other documents" in refused
