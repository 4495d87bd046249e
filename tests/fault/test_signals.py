"""Stop signals: all ranks save at the next step and leave together with 75; going on changes nothing."""

import json
import signal
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, same_numbers

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def status(folder: Path) -> dict[str, object]:
    return json.loads((folder / "exit_status.json").read_text())


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("number", "rank", "stage", "precision"),
    [
        (signal.SIGTERM, 1, 1, "fp32"),
        (signal.SIGUSR1, 0, 0, "fp32"),
        (signal.SIGUSR1, 1, 3, "fp32"),
        (signal.SIGTERM, 0, 1, "bf16"),
    ],
    ids=["zero1", "zero0", "zero3", "BF16_Optimizer"],
)
def test_a_signal_at_one_rank_stops_all_after_a_save_and_going_on_changes_nothing(
    number: int, rank: int, stage: int, precision: str, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    """Stage 2 is in test_kill.py; bf16 at stage 1 is DeepSpeed's BF16_Optimizer, which saves and loads in its own way."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = (f"train.precision={precision}",)
    ranks.results("faults:train", tiny.argv(whole, *settings, stage=stage))
    moment = Moment("zhgpt.train.loader:Loader.take", 5, rank)
    outcomes = ranks.run("faults:train_and_signal", tiny.argv(stopped, *settings, stage=stage), moment, int(number))
    assert [outcome.code for outcome in outcomes] == [75, 75], outcomes[0].output[-2000:]
    name = signal.Signals(number).name
    assert status(stopped)["exit_code"] == 75
    assert f"{name} after step 5 of 8: checkpoint saved" in str(status(stopped)["reason"])
    assert (stopped / "checkpoints" / "step-00000005" / "COMPLETE").is_file()
    assert f"error: {name} after step 5 of 8" in outcomes[0].output

    ranks.results("faults:train", tiny.argv(stopped, *settings, stage=stage))
    assert status(stopped)["exit_code"] == 0
    assert same_numbers(stopped) == same_numbers(whole)
    assert_same_checkpoint(stopped / "checkpoints" / "step-00000008", whole / "checkpoints" / "step-00000008")


def test_a_signal_during_the_last_step_is_no_reason_to_requeue(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    moment = Moment("zhgpt.train.loader:Loader.take", 8, 0)
    outcomes = ranks.run("faults:train_and_signal", tiny.argv(tmp_path), moment, int(signal.SIGTERM))
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert status(tmp_path)["exit_code"] == 0


@pytest.mark.parametrize(("asked", "began"), [("never", [0, 5]), ("path", [6, 11])])
def test_a_job_that_slurm_starts_again_goes_on_from_its_own_checkpoint(
    asked: str, began: list[int], ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    """Step 5 of the first start is stopped; the second has the same words and must not begin at the same place again."""
    if asked == "path":
        ranks.results("faults:train", tiny.argv(tmp_path / "other"))
        asked = str(tmp_path / "other" / "checkpoints" / "step-00000006")
    run_dir, moment = tmp_path / "run", Moment("zhgpt.train.loader:Loader.take", 5, 1)
    argv = tiny.argv(run_dir, "train.steps=14", resume=asked)
    job = {"SLURM_JOB_ID": "17"}
    stopped = ranks.run("faults:train_and_signal", argv, moment, int(signal.SIGUSR1), environment=job)
    assert [outcome.code for outcome in stopped] == [75, 75], stopped[0].output[-2000:]
    (first, _) = ranks.run("faults:train", argv, environment={**job, "SLURM_RESTART_COUNT": "1"})
    assert first.code == 0, first.output[-2000:]
    assert f"--resume {asked} counted for its first start; this one goes on from this run's newest" in first.output
    assert [event["step"] for event in events(run_dir) if event["event"] == "started"] == began
    assert [line["step"] for line in same_numbers(run_dir)] == list(range(began[0] + 1, 15))
