"""``zhgpt tokenizer compare`` and ``advise`` as they are typed."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer import train_bpe, train_sentencepiece
from zhgpt.cli.tokenizer import app

STORY = ["话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。", "及秦灭之后，楚、汉分争，又并入于汉。"] * 10
LAW = ["中华人民共和国的一切权力属于人民。", "公民在法律面前一律平等。"] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare")
    train_bpe(STORY, 400, path / "story")
    train_bpe([*STORY, *LAW], 450, path / "both")
    train_sentencepiece([*STORY, *LAW], 600, path / "pieces")
    for name, texts in (("三国", STORY), ("法律", LAW)):
        lines = (json.dumps({"text": text, "kind": name}, ensure_ascii=False) + "\n" for text in texts)
        (path / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    return path


def zhgpt_tokenizer(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def texts(folder: Path) -> list[object]:
    return ["--text", folder / "三国.jsonl", "--text", folder / "法律.jsonl"]


def test_tokenizers_are_compared_by_domain(folder: Path) -> None:
    three = [folder / "story", folder / "both" / "tokenizer.json", folder / "pieces" / "tokenizer.model"]
    result = zhgpt_tokenizer("compare", *three, *texts(folder), "--hidden-size", 64, "--layers", 2)
    assert result.exit_code == 0, result.output
    for line in (
        r"三国\.jsonl: \d+ characters, 0\.00 MB",
        r"domain +story +both +tokenizer\.model",
        r"三国\.jsonl( +\d\.\d{3}){3}",
        r"法律\.jsonl( +\d+\.\d{2}){3}",
        r"法律\.jsonl( +\d+\.\d %){3}",
        r"vocabulary +354 +409 +528",
        r"common characters \(3,755\): one token, tokens each( +\d+, \d\.\d\d){3}",
        r"20260815( +2\|0\|2\|6\|0\|8\|1\|5){3}",
        r"simplified, characters a token( +\d\.\d{3}){3}",
        r"the same text in traditional( +\d\.\d{3}){3}",
        r"encoding, MB a CPU-second( +\d+\.\d\d){3}",
        r"embedding's share of the model( +\d+\.\d %){3}",
    ):
        assert re.search(line, result.output), (line, result.output)


def test_domains_can_be_those_of_a_field_and_the_model_a_config(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "data: {train: a, sequence_length: 64}\ntrain: {steps: 1, global_batch_size: 1, micro_batch_size: 1}\n"
        "model: {hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 1, vocab_size: 300}\n"
    )
    result = zhgpt_tokenizer("compare", folder / "story", *texts(folder), "--by", "kind", "--config", config)
    assert result.exit_code == 0, (result.output, result.exception)
    assert re.search(r"^法律 +\d\.\d{3}$", result.output, re.MULTILINE)
    assert "embedding's share of the model" in result.output


def test_a_plot_is_a_picture(folder: Path, tmp_path: Path) -> None:
    two = [folder / "story", folder / "both"]
    for name, beginning in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        result = zhgpt_tokenizer("compare", *two, *texts(folder), "--plot", tmp_path / name)
        assert f"wrote {tmp_path / name}" in result.output
        assert (tmp_path / name).read_bytes().startswith(beginning)


def test_advice_names_a_size_and_how_it_was_found(folder: Path) -> None:
    result = zhgpt_tokenizer(
        "advise", "--tokenizer", folder / "both", *texts(folder), "--hidden-size", 64, "--layers", 2
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert re.search(r"vocabulary +characters a token +parameters +embedding +FLOPs a character", result.output)
    assert re.search(r"409 +\d\.\d{3} +\d+\.?\d*k +\d+\.\d % +\d+\.?\d*[kM] +<- advised", result.output)
    assert "advised: 409 tokens, the fewest training FLOPs a character" in result.output
    assert "(a rule of thumb)" in result.output


def test_what_cannot_be_compared_ends_with_its_sentence(folder: Path, tmp_path: Path) -> None:
    story = folder / "story"
    for arguments, message in (
        (("compare", story, "--plot", tmp_path / "a.pdf"), "a.pdf: expected a name that ends in .png or .svg"),
        (("compare", story, "--layers", 2), "a model's size is --hidden-size and --layers together, or --config FILE"),
        (
            ("compare", story, "--layers", 2, "--config", "a.yaml"),
            "--config says the model's size; leave out --hidden-size and --layers",
        ),
        (
            ("advise", "--tokenizer", story),
            "the advice is for a model: give --config FILE, or --hidden-size and --layers",
        ),
        (
            ("advise", "--tokenizer", folder / "pieces", "--hidden-size", 64, "--layers", 2),
            "its ids are not in the order of its merges",
        ),
    ):
        result = zhgpt_tokenizer(*arguments, *texts(folder))
        assert isinstance(result.exception, SettingError), (arguments, result.output)
        assert message in str(result.exception)
