"""``zhgpt tokenizer`` as it is typed."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.tokenizer import load_tokenizer
from megatron_style_data.tokenizer.sentencepiece_proto import read_algorithm
from zhgpt.cli.tokenizer import app

LINES = ["天下大势，分久必合，合久必分。", "周末七国分争，并入于秦。", "及秦灭之后，楚、汉分争，又并入于汉。"] * 20


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    records = "".join(json.dumps({"body": line}, ensure_ascii=False) + "\n" for line in LINES)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress((records + "{\n").encode()))
    (folder / "LICENSE").write_text("free")
    return folder


def zhgpt_tokenizer(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(corpus: Path, output: Path, *more: object) -> Result:
    return zhgpt_tokenizer(
        "train", "--input", corpus, "--text-field", "body", "--vocab-size", 400, "--output", output, *more
    )


def test_training_reads_a_corpus_in_its_own_format(tmp_path: Path) -> None:
    records = [{"文件名": "a.txt", "段落": [{"行号": 0, "是否重复": False, "内容": line}]} for line in LINES]
    path = tmp_path / "20230001.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    words = ("train", "--input", path, "--vocab-size", 400)
    result = zhgpt_tokenizer(*words, "--format", "mnbvc", "--output", tmp_path / "named")
    assert result.exit_code == 0, result.output
    result = zhgpt_tokenizer(*words, "--output", tmp_path / "found")
    assert result.exit_code == 0, result.output
    assert load_tokenizer(tmp_path / "named").fingerprint == load_tokenizer(tmp_path / "found").fingerprint


def test_training_says_what_was_read_dropped_and_made(corpus: Path, tmp_path: Path) -> None:
    result = train(corpus, tmp_path / "out")
    assert result.exit_code == 0, result.output
    tokenizer = load_tokenizer(tmp_path / "out")
    for line in (
        r"reading 1 file: a\.jsonl\.gz",
        r"left out, as their names say no format: LICENSE",
        r"read 60 documents, 0\.0 MB; 0\.0 MB for training \(a sample of it, with each source's share\)",  # each line once
        r"dropped 1 not JSON, first: .*a\.jsonl\.gz, line 61: not JSON",
        r"training bpe, 400 tokens, on 0\.0 MB …; needs about 0\.2 GB of memory",
        rf"vocabulary   {tokenizer.vocab_size} tokens",
        r"end of text  <\|endoftext\|> = 0",
        rf"fingerprint  {tokenizer.fingerprint}",
        r"fit          \d+\.\d\d characters, \d+\.\d\d bytes a token on the sample",
        r"characters   \d+ of the \d+ most frequent are one token",
        r"words        \d+ of the \d+ most frequent pairs of characters are one token",
    ):
        assert re.search(line, result.output), (line, result.output)


def test_a_vocabulary_that_the_text_cannot_fill_is_said(corpus: Path, tmp_path: Path) -> None:
    output = train(corpus, tmp_path / "out", "--vocab-size", 5000).output
    assert re.search(r"vocabulary   \d+ tokens \(of 5,000: the text has no more to merge\)", output)


@pytest.mark.parametrize(("kind", "algorithm"), [("sentencepiece", "bpe"), ("sentencepiece-unigram", "unigram")])
def test_sentencepiece_has_two_kinds(corpus: Path, tmp_path: Path, kind: str, algorithm: str) -> None:
    result = train(corpus, tmp_path / "out", "--kind", kind, "--vocab-size", 500)
    assert result.exit_code == 0
    assert f"training {kind}, 500 tokens, on 0.0 MB …; needs about 0.2 GB of memory" in result.output
    assert load_tokenizer(tmp_path / "out").kind == "sentencepiece"
    assert read_algorithm((tmp_path / "out" / "tokenizer.model").read_bytes(), "it") == algorithm


def test_both_trainers_write_the_same_tokenizer(corpus: Path, tmp_path: Path) -> None:
    for trainer in ("numba", "hf"):
        assert train(corpus, tmp_path / trainer, "--trainer", trainer).exit_code == 0
    contents = [(tmp_path / trainer / "tokenizer.json").read_bytes() for trainer in ("numba", "hf")]
    assert contents[0] == contents[1]
    refused = train(corpus, tmp_path / "out", "--kind", "sentencepiece", "--trainer", "hf")
    assert "sentencepiece has no trainer 'hf'; choose auto" in str(refused.exception)


def test_progress_says_what_is_done_and_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    import zhgpt.cli.tokenizer as command

    monkeypatch.setattr(command, "_SECONDS_BETWEEN_LINES", 0.0)
    lines: list[str] = []
    monkeypatch.setattr(command.typer, "echo", lines.append)
    on_progress = command._training_lines()
    on_progress("counting pieces of text", 0.01)
    on_progress("learning merges", 0.5)
    assert lines[0] == "  counting pieces of text: about 1% of the training done"
    assert re.fullmatch(r"  learning merges: about 50% of the training done, about \d+ s left", lines[1])
    on_progress("sentencepiece trains, and does not say how far it is", None)
    assert re.fullmatch(r"  sentencepiece trains, and does not say how far it is: \d+ s so far", lines[2])


def test_a_sample_says_what_share_each_source_has(tmp_path: Path) -> None:
    for name, size in (("a", 300), ("b", 100)):
        records = (json.dumps({"text": f"{name}{number:05d}" * 100}) + "\n" for number in range(size))
        (tmp_path / f"{name}.jsonl").write_text("".join(records))
    inputs = ("--input", tmp_path / "a.jsonl", "--input", tmp_path / "b.jsonl")
    output = zhgpt_tokenizer(
        "train", *inputs, "--output", tmp_path / "out", "--vocab-size", 300, "--sample-bytes", 120_000
    ).output
    assert "a.jsonl: 75.0 % of the text" in output
    shares = [float(share) for share in re.findall(r"([\d.]+) % of the sample", output)]
    assert len(shares) == 2
    assert 65 < shares[0] < 85
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_too_little_memory_is_said_before_training(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zhgpt.cli.tokenizer.free_memory", lambda: 10**6)
    result = train(corpus, tmp_path / "out")
    assert "warning: that may be too much for this machine; a smaller --sample-bytes takes less" in result.output


def test_an_existing_output_needs_force(corpus: Path, tmp_path: Path) -> None:
    assert train(corpus, tmp_path / "out").exit_code == 0
    again = train(corpus, tmp_path / "out")
    assert isinstance(again.exception, SettingError)
    assert str(again.exception).endswith(
        "holds a tokenizer already; choose another output, or replace it with --force."
    )
    assert "reading" not in again.output  # said before any work
    assert train(corpus, tmp_path / "out", "--force").exit_code == 0


def test_wrong_input_ends_with_its_error(corpus: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "out")
    for arguments, error, message in (
        (("--input", tmp_path / "gone"), MissingInputError, "no such file or folder"),
        (("--input", corpus), BadDataError, "no text field 'text' or 'content'; fields found: 'body'"),
        (("--input", corpus, "--text-field", "body", "--on-bad", "refuse"), BadDataError, "line 61: not JSON"),
        (("--input", corpus, "--vocab-size", 100), SettingError, "vocab_size 100 is too small"),
        (("--input", corpus, "--sample-bytes", 0), SettingError, "sample_bytes 0 is not positive"),
        (("--input", corpus, "--vocab-size", 300, "--kind", "sentencepiece"), SettingError, "300 is too small"),
    ):
        result = zhgpt_tokenizer("train", *arguments, *output)
        assert isinstance(result.exception, error)
        assert message in str(result.exception)
    assert zhgpt_tokenizer("train", "--input", corpus, *output, "--kind", "wordpiece").exit_code == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus"]


def test_show_lists_the_tokens_of_a_text(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "out")
    result = zhgpt_tokenizer("show", "天下大势\r\n🀄", "--tokenizer", tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert re.fullmatch(r" *\d+  '天下大势'", lines[0])
    assert (
        lines[-3]
        == f"{len(lines) - 3} tokens for 6 characters, 17 bytes, {6 / (len(lines) - 3):.2f} characters a token"
    )
    assert lines[-2] == "decoded: the same text"
    assert re.fullmatch(r".*out: huggingface, \d+ tokens, end of text 0", lines[-1])


def test_show_tells_special_tokens_from_text(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "out")
    output = zhgpt_tokenizer("show", "<|endoftext|>", "--tokenizer", tmp_path / "out").output
    assert not re.search(r"^ *0  ", output, re.MULTILINE)


def test_show_of_nothing_is_no_error(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "out")
    assert "0 tokens for 0 characters, 0 bytes\n" in zhgpt_tokenizer("show", "", "--tokenizer", tmp_path / "out").output


def test_show_says_when_a_tokenizer_loses_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"[UNK]": 0, "[EOS]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    result = zhgpt_tokenizer("show", "天", "--tokenizer", tmp_path, "--end-of-text", "[EOS]")
    assert "decoded: another text, '[UNK]'" in result.output


def test_the_command_prints_the_sentence_alone_and_its_exit_code(tmp_path: Path) -> None:
    code = "import sys; from zhgpt.cli.main import main; sys.exit(main())"
    arguments = ["tokenizer", "show", "天", "--tokenizer", str(tmp_path / "gone")]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 66
    assert re.fullmatch(r"error: .*gone: no such file or folder; expected a tokenizer \(.*\)\.\n", done.stderr)
