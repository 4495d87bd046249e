"""Ramps, short rows and branches in real runs: ZeRO 0 to 3, one and two ranks, stopped and resumed."""

import json
import signal
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, losses, metrics, same_numbers

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

RAMP = (
    "train.micro_batch_size=2",
    "train.global_batch_size=12",
    "train.batch_ramp=[{global_batch_size: 4, until_step: 3}, {global_batch_size: 8, until_tokens: 896}]",
    "data.sequence_length_warmup=[{sequence_length: 8, until_step: 4}]",
    "optim.learning_rate=1e-2",
    "evaluate.prompts=[话说]",
)
"""At 2 ranks: 1, 2, then 3 micro-steps, each change where the micro-steps so far are no multiple of the new number."""


@pytest.fixture(scope="module")
def run(ranks: Ranks, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory):
    """Trains the ramp at a stage and a number of ranks and gives the folder; each is made once."""
    known: dict[tuple[int, int], Path] = {}

    def train(stage: int, world_size: int) -> Path:
        if (stage, world_size) not in known:
            folder = tmp_path_factory.mktemp("ramp")
            ranks.results("faults:train", tiny.argv(folder, *RAMP, stage=stage), world_size=world_size)
            known[stage, world_size] = folder
        return known[stage, world_size]

    return train


@pytest.mark.parametrize(("stage", "world_size"), [(0, 2), (1, 2), (2, 2), (3, 2)])
def test_a_ramp_gives_the_losses_of_one_process_without_zero(run, stage: int, world_size: int) -> None:
    reference, other = metrics(run(0, 1)), metrics(run(stage, world_size))
    assert [line["loss"] for line in other] == pytest.approx([line["loss"] for line in reference], abs=1e-5)
    assert [line["gradient_norm"] for line in other] == pytest.approx(
        [line["gradient_norm"] for line in reference], rel=1e-4
    )
    consumed = [samples * 32 for samples in (4, 8, 12, 20, 28, 40, 52, 64)]
    assert [line["consumed_tokens"] for line in other] == consumed
    assert reference[0]["loss"] - reference[-1]["loss"] > 0.3, "it must learn, or equal losses prove nothing"


def test_a_ramp_that_is_stopped_between_its_stages_goes_on_bit_for_bit(
    run, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    argv = tiny.argv(tmp_path, *RAMP, stage=2)
    stop = Moment("zhgpt.train.loader:Loader.take", 4, 0), int(signal.SIGUSR1)
    assert [outcome.code for outcome in ranks.run("faults:train_and_signal", argv, *stop)] == [75, 75]
    assert len(metrics(tmp_path)) == 3
    ranks.results("faults:train", argv)
    assert same_numbers(tmp_path) == same_numbers(run(2, 2))
    last = "checkpoints/step-00000008"
    assert_same_checkpoint(tmp_path / last, run(2, 2) / last)
    state = json.loads((tmp_path / last / "train_state.json").read_text())
    assert state["consumed_samples"] == 64
    assert state["batch_stages"] == [[0, 4, 8], [3, 8, 8], [4, 8, 32], [5, 12, 32]]
