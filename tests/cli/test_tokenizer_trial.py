"""``zhgpt tokenizer compare --train-steps``: bits per byte at equal training."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from megatron_style_data.tokenizer import train_bpe, train_sentencepiece
from zhgpt.cli.tokenizer import app
from zhgpt.cli.tokenizer_trial import TrialError, TrialSettings, trials
from zhgpt.errors import BadDataError, SettingError

CONFIG = """
data: {train: elsewhere, sequence_length: 32}
model: {model_type: qwen3, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 9999}
optim: {learning_rate: 1.0e-2}
train: {steps: 1000, global_batch_size: 2, micro_batch_size: 2, precision: fp32}
launch: {accelerator: cpu, timeout_seconds: 60}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 documents, a tokenizer that merges much in them and one that spells them in bytes."""
    path = tmp_path_factory.mktemp("trial")
    texts = [f"第{number}回　话说天下大势，分久必合，合久必分。{number % 7}次。" for number in range(80)]
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    (path / "text.jsonl").write_text("".join(lines), "utf-8")
    train_bpe(texts, 300, path / "merged")
    train_sentencepiece(["乙丙丁"], 400, path / "bytes")
    (path / "run.yaml").write_text(CONFIG)
    return path


def compare(folder: Path, *words: object) -> Result:
    arguments = ["compare", folder / "merged", folder / "bytes", "--text", folder / "text.jsonl", *words]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_each_tokenizer_trains_on_the_same_bytes(folder: Path) -> None:
    result = compare(folder, "--config", folder / "run.yaml", "--train-steps", 5)
    assert result.exit_code == 0, (result.output, result.exception)
    rows = {
        what: [float(number) for number in re.findall(rf"^{what} +([\d.]+) +([\d.]+)$", result.output, re.MULTILINE)[0]]
        for what in ("steps", "text trained on, MB", "epochs", "held-out bits per byte")
    }
    first, second = rows["steps"]
    assert first == 5
    assert second > 10  # a character is three tokens to it
    assert "training with merged: 5 steps …" in result.output
    assert f"training with bytes: {second:.0f} steps …" in result.output
    assert rows["epochs"][1] == pytest.approx(rows["epochs"][0], rel=0.1)
    for bits in rows["held-out bits per byte"]:
        assert 0 < bits < math.log2(400)
    assert "one run each, so small differences may be chance" in result.output


def settings(text: Path, steps: int, config: Path | None = None, *overrides: str) -> TrialSettings:
    return TrialSettings([str(text)], None, None, config, overrides, steps)


@pytest.mark.slow
def test_a_training_that_fails_says_why(folder: Path) -> None:
    wrong = settings(folder / "text.jsonl", 5, folder / "run.yaml", "train.micro_batch_size=5")
    with pytest.raises(TrialError, match=r"the training with it ended with exit code 2: .*micro_batch_size") as caught:
        list(trials({"it": folder / "merged"}, wrong, lambda line: None))
    assert caught.value.exit_code == 2


def test_too_few_steps_and_too_few_documents_are_refused(folder: Path, tmp_path: Path) -> None:
    result = compare(folder, "--train-steps", 0)
    assert isinstance(result.exception, SettingError)
    assert "--train-steps 0: expected at least 1" in str(result.exception)
    (tmp_path / "one.jsonl").write_text('{"text": "只有一篇"}\n', "utf-8")
    with pytest.raises(BadDataError, match="nothing is left to train on"):
        list(trials({"it": folder / "merged"}, settings(tmp_path / "one.jsonl", 1), lambda line: None))
