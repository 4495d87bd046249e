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


@pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 0)])
def test_a_signal_at_one_rank_stops_all_after_a_save(
    number: int, rank: int, ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    ranks.results("faults:train", tiny.argv(whole))
    moment = Moment("zhgpt.train.loader:Loader.take", 5, rank)
    outcomes = ranks.run("faults:train_and_signal", tiny.argv(stopped), moment, int(number))
    assert [outcome.code for outcome in outcomes] == [75, 75], outcomes[0].output[-2000:]
    name = signal.Signals(number).name
    assert status(stopped)["exit_code"] == 75
    assert f"{name} after step 5 of 8: checkpoint saved" in str(status(stopped)["reason"])
    assert (stopped / "checkpoints" / "step-00000005" / "COMPLETE").is_file()
    assert f"error: {name} after step 5 of 8" in outcomes[0].output

    ranks.results("faults:train", tiny.argv(stopped))
    assert status(stopped)["exit_code"] == 0
    assert same_numbers(stopped) == same_numbers(whole)
    assert_same_checkpoint(stopped / "checkpoints" / "step-00000008", whole / "checkpoints" / "step-00000008")


def test_a_signal_during_the_last_step_is_no_reason_to_requeue(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    moment = Moment("zhgpt.train.loader:Loader.take", 8, 0)
    outcomes = ranks.run("faults:train_and_signal", tiny.argv(tmp_path), moment, int(signal.SIGTERM))
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert status(tmp_path)["exit_code"] == 0
