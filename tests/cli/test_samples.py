"""``zhgpt samples``: texts at fixed prompts, measured beside held-out text."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from tiny import Tiny

from megatron_style_data.tokenizer import load_tokenizer
from zhgpt.cli.main import load_command
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, MissingInputError, StorageError, UserError
from zhgpt.evaluate.writing import held_out_passages, writing_of
from zhgpt.export.generate import GenerationSettings, generate_text, load_for_generation
from zhgpt.export.hf import export_hf
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM

PROMPTS = "话说天下大势，\n\n玄德曰：\n"


@pytest.fixture(scope="module")
def exported(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the tiny dataset's vocabulary that writes at random."""
    torch.set_num_threads(1)
    model = ModelSection(
        vocab_size=600, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, seed=1)
    out = tmp_path_factory.mktemp("model") / "out"
    return export_hf(module.state_dict(), model, tiny.tokenizer, out).path


def run(tiny: Tiny, exported: Path, prompts: Path | None, *words: str) -> Result:
    arguments = ["--model", str(exported), "--data", str(tiny.prefix)]
    arguments += [] if prompts is None else ["--prompts", str(prompts)]
    return CliRunner().invoke(load_command("samples"), [*arguments, "--max-new-tokens", "60", *words])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeff" + PROMPTS, encoding="utf-8")
    return path


def test_every_prompt_is_continued_with_its_own_seed_and_measured(
    tiny: Tiny, exported: Path, prompts: Path, tmp_path: Path
) -> None:
    result = run(tiny, exported, prompts, "--output", str(tmp_path / "out"), "--seed", "7")
    assert result.exit_code == 0, result.output
    assert "texts counted" in result.output
    assert "copied windows" in result.output
    assert "of held-out text:" in result.output
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text("utf-8").splitlines()]
    assert [(line["prompt"], line["seed"]) for line in lines] == [("话说天下大势，", 7), ("玄德曰：", 8)]
    drawn = GenerationSettings(60, temperature=1.0, top_k=0, top_p=0.95, seed=8)
    greedy = GenerationSettings(60, greedy=True)
    for name, settings in (("text", drawn), ("greedy", greedy)):
        whole = generate_text(load_for_generation(exported), "玄德曰：", settings, lambda piece: None)
        assert whole == "玄德曰：" + lines[1][name]


def test_held_out_text_begins_where_it_is_told(tiny: Tiny, exported: Path, prompts: Path, tmp_path: Path) -> None:
    found = []
    for place in ("beginning", "inside"):
        result = run(tiny, exported, prompts, "--output", str(tmp_path / place), "--held-out-from", place)
        assert result.exit_code == 0, result.output
        summary = json.loads((tmp_path / place / "summary.json").read_text("utf-8"))
        assert summary["settings"]["held-out-from"] == place
        found.append(summary)
    assert found[0]["written"] == found[1]["written"]
    assert found[0]["held_out"] != found[1]["held_out"]


def test_without_prompts_held_out_passages_are_continued_and_compared_with_themselves(
    tiny: Tiny, exported: Path, tmp_path: Path
) -> None:
    result = run(tiny, exported, None, "--output", str(tmp_path / "out"), "--passages", "3", "--prompt-tokens", "9")
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["settings"]["prompt-tokens"] == 9
    tokenizer = load_tokenizer(tiny.tokenizer)
    passages = held_out_passages(tiny.prefix, tokenizer, 3, 9, 60)
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text("utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == [one.prompt for one in passages]
    held_out = writing_of([one.continuation for one in passages])
    assert held_out is not None
    assert summary["held_out"]["measures"] == pytest.approx(held_out.measures)
    nothing = problem(run(tiny, exported, None, "--prompt-tokens", "1000000"))
    assert isinstance(nothing, BadDataError)
    assert "no held-out document is longer than the 1000000 tokens of a prompt; ask for fewer" in str(nothing)


def problem(result: Result) -> UserError:
    assert isinstance(result.exception, UserError)
    return result.exception


def test_wrong_inputs_are_named_before_anything_is_written(
    tiny: Tiny, exported: Path, prompts: Path, tmp_path: Path
) -> None:
    missing = problem(run(tiny, exported, tmp_path / "none.txt"))
    assert isinstance(missing, MissingInputError)
    assert "none.txt: no such file; expected a text file with a prompt a line" in str(missing)
    for content, sentence in ((b"\n \n", "has no prompt; write one a line"), (b"\xb0\xa1", "not UTF-8 at byte 0")):
        prompts.write_bytes(content)
        found = problem(run(tiny, exported, prompts))
        assert isinstance(found, BadDataError)
        assert sentence in str(found)
    there = problem(run(tiny, exported, prompts, "--output", str(tmp_path)))
    assert isinstance(there, StorageError)
    assert "exists already; choose another output" in str(there)
