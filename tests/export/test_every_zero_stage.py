"""Exports of real runs: from every ZeRO stage and precision, the trained model comes out."""

from pathlib import Path

import pytest
from commands import zhgpt
from ranks import Ranks
from tiny import Tiny

from zhgpt.checkpoint.consolidated import load_consolidated
from zhgpt.errors import BadDataError
from zhgpt.export.hf import Probe, export_hf

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SHORT = ("train.steps=3", "checkpoint.every_steps=3", "evaluate.every_steps=100", "optim.learning_rate=1e-2")
CASES = [(stage, precision) for stage in (0, 1, 2, 3) for precision in ("fp32", "bf16")]


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_a_checkpoint_of_any_stage_becomes_the_model_that_the_engine_was(
    ranks: Ranks, tiny: Tiny, tmp_path: Path, stage: int, precision: str
) -> None:
    """Two ranks; the export itself refuses logits that are not the engine's."""
    model_type = "gpt2" if stage % 2 else "qwen3"
    argv = tiny.argv(tmp_path / "run", *SHORT, f"train.precision={precision}", stage=stage, model_type=model_type)
    ranks.results("faults:train", argv, world_size=2)
    found = load_consolidated(tmp_path / "run")
    assert found.precision == precision
    probe = Probe(found.probe_tokens, found.probe_logits, found.precision)
    exported = export_hf(found.state_dict, found.model, found.tokenizer_dir, tmp_path / "out", probe=probe)
    assert exported.largest_engine_difference is not None
    assert exported.largest_engine_difference < (1e-4 if precision == "fp32" else 5e-2)
    assert exported.largest_difference < 1e-5
    broken = found.state_dict | {"model.embed_tokens.weight": found.state_dict["model.embed_tokens.weight"] * 1.5}
    with pytest.raises(BadDataError, match="this is not the model that was trained"):
        export_hf(broken, found.model, found.tokenizer_dir, tmp_path / "broken", probe=probe)


def test_a_run_and_its_export_continue_a_prompt_alike_and_print_nothing_else(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path / "run", *SHORT, stage=3), world_size=2)
    zhgpt("export", "hf", "--checkpoint", tmp_path / "run", "--output", tmp_path / "out")
    words = ("--prompt", "话说天下大势", "--max-new-tokens", "8", "--seed", "3")
    texts = [zhgpt("generate", "--model", tmp_path / name, *words).stdout for name in ("run", "out")]
    assert texts[0] == texts[1]
    assert texts[0].startswith("话说天下大势")
