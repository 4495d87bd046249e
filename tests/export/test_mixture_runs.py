"""Exports of real runs with experts, and the refusal of what no class holds before anything large is read."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import zhgpt
from ranks import Ranks
from tiny import Tiny
from written_checkpoint import write_checkpoint

from zhgpt.checkpoint.consolidated import load_consolidated
from zhgpt.checkpoint.layout import TRAIN_STATE
from zhgpt.cli.main import load_command
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection
from zhgpt.errors import BadDataError, SettingError
from zhgpt.export.hf import Probe, export_hf

SHORT = ("train.steps=3", "checkpoint.every_steps=3", "evaluate.every_steps=100", "optim.learning_rate=1e-2")
EXPERTS = ("model.moe.num_experts=4", "model.moe.moe_intermediate_size=24")
SIGMOID = ("model.moe.scoring_func=sigmoid", "model.moe.n_shared_experts=1", "model.moe.bias_update_rate=0.01")

# Settings, model type, ZeRO stage, precision, ep_size, class.
RUNS: dict[str, tuple[tuple[str, ...], str, int, str, int, str]] = {
    "ZeRO-0": ((), "llama", 0, "fp32", 2, "MixtralForCausalLM"),
    "ZeRO-0 under autocast": ((), "qwen3", 0, "bf16", 2, "Qwen3MoeForCausalLM"),
    "ZeRO-1": (SIGMOID, "qwen3", 1, "fp32", 2, "Dots1ForCausalLM"),
    "BF16_Optimizer": (SIGMOID, "qwen3", 1, "bf16", 2, "Dots1ForCausalLM"),
    "ZeRO-2": ((), "qwen3", 2, "bf16", 2, "Qwen3MoeForCausalLM"),
    "ZeRO-3": (SIGMOID, "llama", 3, "bf16", 1, "Glm4MoeForCausalLM"),
    "deepspeed, dropping": (("model.moe.layer=deepspeed",), "qwen3", 2, "fp32", 2, "Qwen3MoeForCausalLM"),
}


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("case", RUNS)
def test_a_run_becomes_the_model_that_the_engine_was(ranks: Ranks, tiny: Tiny, tmp_path: Path, case: str) -> None:
    settings, model_type, stage, precision, ep_size, architecture = RUNS[case]
    words = (*SHORT, *EXPERTS, *settings, f"train.precision={precision}", f"train.ep_size={ep_size}")
    ranks.results("faults:train", tiny.argv(tmp_path / "run", *words, stage=stage, model_type=model_type))
    found = load_consolidated(tmp_path / "run")
    probe = Probe(found.probe_tokens, found.probe_logits, found.precision)
    exported = export_hf(found.state_dict, found.model, found.tokenizer_dir, tmp_path / "out", probe=probe)
    assert exported.architecture == architecture
    assert exported.largest_engine_difference is not None
    assert exported.largest_engine_difference < (1e-4 if precision == "fp32" else 5e-2)
    assert exported.largest_difference < 1e-5


@pytest.mark.slow
@pytest.mark.distributed
def test_the_command_says_the_class_and_the_export_speaks(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path / "run", *SHORT, *EXPERTS, "train.ep_size=2", stage=2))
    said = zhgpt("export", "hf", "--checkpoint", tmp_path / "run", "--output", tmp_path / "out").stdout
    assert "out: Qwen3MoeForCausalLM, " in said
    words = ("--prompt", "话说天下大势", "--max-new-tokens", "4")
    texts = [zhgpt("generate", "--model", tmp_path / name, *words).stdout for name in ("run", "out")]
    assert texts[0] == texts[1]
    assert texts[0].startswith("话说天下大势")


def checkpoint_without_weights(run: Path) -> Path:
    """Complete by its manifest, of a pyramid of experts, and with no engine at all."""
    moe = MoeSection(num_experts=4, num_experts_by_layer=(4, 8))
    model = ModelSection(
        moe=moe, vocab_size=64, num_hidden_layers=2, head_dim=64, num_key_value_heads=12, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    state = json.dumps({"model": model.model_dump(mode="json")}).encode()
    folder = write_checkpoint(run / "checkpoints", 3, others={TRAIN_STATE: state})
    shutil.rmtree(folder / "engine")
    return folder


def test_a_model_that_no_class_holds_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    folder = checkpoint_without_weights(tmp_path / "run")
    export = ["hf", "--checkpoint", str(folder), "--output", str(tmp_path / "out")]
    generate = ["--model", str(tmp_path / "run"), "--prompt", "话说"]
    for command, arguments in (("export", export), ("generate", generate)):
        result = CliRunner().invoke(load_command(command), arguments)
        assert isinstance(result.exception, SettingError), result.output
        assert "exports to no transformers class: every class has one number of experts" in str(result.exception)


def test_a_changed_train_state_is_found_before_it_is_believed(tmp_path: Path) -> None:
    folder = checkpoint_without_weights(tmp_path / "run")
    (folder / TRAIN_STATE).write_text((folder / TRAIN_STATE).read_text().replace("8]", "4]"))
    result = CliRunner().invoke(
        load_command("export"), ["hf", "--checkpoint", str(folder), "--output", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, BadDataError)
    assert "damaged checkpoint" in str(result.exception)
