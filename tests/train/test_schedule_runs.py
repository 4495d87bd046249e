"""Ramps, short rows and branches in real runs: ZeRO 0 to 3, one and two ranks, stopped and resumed."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, metrics, same_numbers

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
    assert len(metrics(tmp_path)) == 4
    ranks.results("faults:train", argv)
    assert same_numbers(tmp_path) == same_numbers(run(2, 2))
    last = "checkpoints/step-00000008"
    assert_same_checkpoint(tmp_path / last, run(2, 2) / last)
    state = json.loads((tmp_path / last / "train_state.json").read_text())
    assert state["consumed_samples"] == 64
    assert state["batch_stages"] == [[0, 4, 8], [3, 8, 8], [4, 8, 32], [5, 12, 32]]


WSD = ("schedule.name=wsd", "schedule.decay_fraction=0.5", "schedule.minimum_ratio=0", "evaluate.every_steps=8")
STABLE = "checkpoints/step-00000004"


@pytest.fixture(scope="module")
def cooled(ranks: Ranks, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 8 steps whose rate falls from step 4 on."""
    folder = tmp_path_factory.mktemp("wsd")
    ranks.results("faults:train", tiny.argv(folder, *WSD, stage=2))
    return folder


def test_the_checkpoint_before_the_decay_is_saved_and_outlives_newer_ones(cooled: Path) -> None:
    kept = sorted(path.name for path in (cooled / "checkpoints").iterdir())
    assert kept == [
        "step-00000004",
        "step-00000006",
        "step-00000008",
    ]  # every 3 steps, the last 2 kept, and the stable one


def test_a_branch_as_long_as_the_decay_of_its_run_is_that_decay_bit_for_bit(
    cooled: Path, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    argv = tiny.argv(tmp_path, *WSD, "schedule.decay_fraction=0.1", f"train.branch_from={cooled / STABLE}", stage=2)
    ranks.results("faults:train", argv)
    assert same_numbers(tmp_path) == same_numbers(cooled)[4:]
    last = "checkpoints/step-00000008"
    assert_same_checkpoint(tmp_path / last, cooled / last)
    complete = json.loads((cooled / STABLE / "COMPLETE").read_text())
    came_from = {
        "from": str(cooled / STABLE),
        "step": 4,
        "consumed_samples": 32,
        "manifest_xxh3_128": complete["manifest_xxh3_128"],
    }
    assert json.loads((tmp_path / "environment.json").read_text())["branch"] == came_from
    assert json.loads((tmp_path / last / "train_state.json").read_text())["branch"] == came_from
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (branched,) = [event for event in events if event["event"] == "branched"]
    assert branched["largest_logit_difference"] == 0


def test_a_branch_of_another_length_and_shape_goes_on_after_a_stop_without_the_run_it_came_from(
    cooled: Path, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    parent = tmp_path / "moved" / STABLE
    shutil.copytree(cooled / STABLE, parent)
    words = (*WSD, "schedule.decay_shape=one_minus_sqrt", f"train.branch_from={parent}", "train.steps=7")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    ranks.results("faults:train", tiny.argv(whole, *words, stage=2))
    rates = [line["learning_rate"] / 1e-3 for line in metrics(whole)]
    assert rates == pytest.approx([1 - (1 / 3) ** 0.5, 1 - (2 / 3) ** 0.5, 0])
    stop = Moment("zhgpt.train.loader:Loader.take", 2, 0), int(signal.SIGUSR1)
    ended = ranks.run("faults:train_and_signal", tiny.argv(stopped, *words, stage=2), *stop)
    assert [outcome.code for outcome in ended] == [75, 75], ended[0].output[-2000:]
    shutil.rmtree(parent)
    ranks.results("faults:train", tiny.argv(stopped, *words, stage=2))
    assert same_numbers(stopped) == same_numbers(whole)
    assert_same_checkpoint(stopped / "checkpoints/step-00000007", whole / "checkpoints/step-00000007")


def test_a_checkpoint_that_has_decayed_is_not_branched_from(
    cooled: Path, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    late = cooled / "checkpoints" / "step-00000006"
    refused = ranks.run("faults:train", tiny.argv(tmp_path, *WSD, f"train.branch_from={late}", stage=2))
    assert [outcome.code for outcome in refused] == [2, 2]
    assert (
        f"{late} has decayed already: its run's rate falls from step 4 on, and this is after 6 steps. Branch from a checkpoint "
        "of at most 4 steps; the one of 4 is kept for this"
    ) in refused[0].output
