"""``zhgpt generate`` and ``zhgpt export hf`` as commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer

from megatron_style_data.tokenizer import train_bpe
from zhgpt.checkpoint.consolidated import Consolidated
from zhgpt.cli.main import load_command
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, MissingInputError, SettingError, StorageError
from zhgpt.export.hf import export_hf
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM

PROMPT = "村民们都很高兴，在"


@pytest.fixture(scope="module")
def consolidated(tmp_path_factory: pytest.TempPathFactory) -> Consolidated:
    """What a checkpoint of a small model gives."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    train_bpe(["村民们都很高兴，在山上种了一千二百棵树。" * 3], 320, folder / "tokenizer")
    model = ModelSection(
        vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=64, max_position_embeddings=128, initializer_range=0.3,
    )  # fmt: skip
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, seed=1)
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        logits = module(tokens)
    return Consolidated(
        state_dict=module.state_dict(),
        model=model,
        tokenizer_dir=folder / "tokenizer",
        probe_tokens=tokens,
        probe_logits=logits,
        precision="fp32",
        step=20,
        path=folder / "checkpoints" / "step-00000020",
    )


@pytest.fixture(scope="module")
def exported(consolidated: Consolidated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "out"
    return export_hf(consolidated.state_dict, consolidated.model, consolidated.tokenizer_dir, out).path


def test_a_fresh_process_prints_what_transformers_generates_even_in_an_ascii_locale(exported: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "zhgpt.cli.main", "generate", "--model", str(exported), "--prompt", PROMPT]
    command += ["--max-new-tokens", "30", "--temperature", "1.1", "--top-k", "40", "--top-p", "0.9", "--seed", "5"]
    finished = subprocess.run(command, capture_output=True, timeout=120, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr.decode()
    module, tokenizer = AutoModelForCausalLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    torch.manual_seed(5)
    tokens = module.generate(
        **inputs, max_new_tokens=30, do_sample=True, temperature=1.1, top_k=40, top_p=0.9, repetition_penalty=1.0
    )
    assert finished.stdout.decode("utf-8") == tokenizer.decode(tokens[0], skip_special_tokens=True) + "\n"


def test_greedy_with_a_setting_for_draws_is_refused(exported: Path) -> None:
    result = CliRunner().invoke(
        load_command("generate"), ["--model", str(exported), "--greedy", "--top-k", "3", "--seed", "1"]
    )
    assert isinstance(result.exception, SettingError)
    assert "--greedy draws nothing, so --top-k, --seed would have no effect" in str(result.exception)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(load_command("generate"), ["--model", str(tmp_path / "nowhere"), "--prompt", PROMPT])
    assert isinstance(result.exception, MissingInputError)
    assert "nowhere: no such folder" in str(result.exception)


def test_export_reads_the_checkpoint_and_says_what_it_wrote(
    consolidated: Consolidated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zhgpt.checkpoint.consolidated.saved_model", lambda path: consolidated.model)
    monkeypatch.setattr("zhgpt.checkpoint.consolidated.load_consolidated", lambda path: consolidated)
    arguments = ["hf", "--checkpoint", "runs/x", "--output", str(tmp_path / "out"), "--dtype", "bfloat16"]
    result = CliRunner().invoke(load_command("export"), arguments)
    assert result.exit_code == 0, result.output
    assert "Qwen3ForCausalLM, " in result.output
    assert "bfloat16, step 20" in result.output
    assert "from the engine's in fp32" in result.output
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    again = CliRunner().invoke(load_command("export"), arguments)
    assert isinstance(again.exception, StorageError)
    forced = CliRunner().invoke(load_command("export"), [*arguments, "--force"])
    assert forced.exit_code == 0, forced.output


def test_export_refuses_weights_that_are_not_the_engines(
    consolidated: Consolidated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consolidated.probe_logits[0, 3, 5] += 1
    monkeypatch.setattr("zhgpt.checkpoint.consolidated.saved_model", lambda path: consolidated.model)
    monkeypatch.setattr("zhgpt.checkpoint.consolidated.load_consolidated", lambda path: consolidated)
    result = CliRunner().invoke(
        load_command("export"), ["hf", "--checkpoint", "runs/x", "--output", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, BadDataError)
    assert not (tmp_path / "out").exists()
