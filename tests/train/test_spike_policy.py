"""What a real run does about a spike: noise in its data, and gradients that are no numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, checkpoint_tensors, metrics, same_numbers
from written_dataset import write_dataset

from megatron_style_data.manifest import load_manifest

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

NOISE_AT = 20
STEPS = 26


def events(run_dir: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if line["event"] == name]


def train_state(run_dir: Path, step: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run_dir / "checkpoints" / f"step-{step:08d}" / "train_state.json").read_text())
    return state


@pytest.fixture(scope="module")
def noisy(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings of a run whose samples of one step are tokens that the text hardly has, each a few hundred times."""
    prefix = tmp_path_factory.mktemp("noise") / "noise"
    rare = np.tile(np.arange(3, 40), 40)
    write_dataset(prefix, [rare], tokenizer=load_manifest(tiny.prefix).tokenizer)
    blend = f"data.blend=[{{data: {tiny.prefix}, name: text, weight: 1}}, {{data: {prefix}, name: noise, weight: 0}}]"
    phases = f"{{from_step: {NOISE_AT}, weights: {{noise: 1}}}}, {{from_step: {NOISE_AT + 1}, weights: {{text: 1}}}}"
    clean = ("optim.learning_rate=1e-2", f"train.steps={STEPS}", "evaluate.prompts=[]", "evaluate.every_steps=100")
    return ("data.train=null", blend, f"data.phases=[{phases}]", f"data.tokenizer={tiny.tokenizer}", *clean)


def test_a_run_that_rolls_back_past_noise_equals_one_that_never_met_it(
    ranks: Ranks, tiny: Tiny, noisy: tuple[str, ...], tmp_path: Path
) -> None:
    clean = (*noisy, "data.phases=[]")
    every = "checkpoint.every_steps=10"
    ranks.results("faults:train", tiny.argv(tmp_path / "clean", *clean, every))
    ranks.results("faults:train", tiny.argv(tmp_path / "noisy", *noisy, every, "health.on_spike=roll_back"))
    (back,) = events(tmp_path / "noisy", "rolled_back")
    assert (back["step"], back["from_step"], back["skipped_samples"]) == (20, 21, 8)
    assert same_numbers(tmp_path / "noisy") == same_numbers(tmp_path / "clean")
    names = [tmp_path / run / "checkpoints" / f"step-{STEPS:08d}" for run in ("noisy", "clean")]
    assert_same_checkpoint(*names)
    assert train_state(tmp_path / "noisy", STEPS)["consumed_samples"] == 8 * STEPS + 8
