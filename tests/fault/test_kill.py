"""SIGKILL of a rank at twenty seeded moments: after a resume nothing has changed, bit for bit."""

import random
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, same_numbers

from zhgpt.checkpoint.layout import list_complete, verify_checkpoint

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

# Place of a kill -> how often it is reached in an undisturbed run of 8 steps (saves after 3, 6 and 8; evaluations after 4, 8).
BEFORE_THE_FIRST_STEP = {"zhgpt.train.pretrain:build_engine": 1, "zhgpt.train.pretrain:open_training_samples": 1}
STEP = {
    "zhgpt.train.loader:Loader.take": 8,
    "zhgpt.train.training:forward": 10,
    "zhgpt.train.loop:measure": 8,
    "zhgpt.train.outputs:Outputs.step": 8,
}
EVALUATION = {"zhgpt.train.held_out:validate": 2, "zhgpt.train.text_samples:sample_continuations": 2}
SAVE = {
    "zhgpt.checkpoint.save:_prepare": 3,
    "zhgpt.checkpoint.save:_write_shards": 3,
    "zhgpt.train.outputs:Outputs.saved": 3,
}
BETWEEN_SHARD_AND_COMPLETE = {
    "zhgpt.checkpoint.save:_durable_entry": 3,
    "zhgpt.checkpoint.save:_commit": 3,
    "zhgpt.checkpoint.save:atomic_write_json": 9,
    "zhgpt.checkpoint.save:fsync_folder": 9,
    "zhgpt.checkpoint.save:_delete": 1,
}
LOAD = {"zhgpt.train.start:check_checkpoint": 1, "zhgpt.train.pretrain:load_checkpoint": 1}
RANK_0_ONLY = {
    *("zhgpt.checkpoint.save:_prepare", "zhgpt.checkpoint.save:_commit", "zhgpt.checkpoint.save:atomic_write_json"),
    *("zhgpt.checkpoint.save:fsync_folder", "zhgpt.checkpoint.save:_delete"),
}
GROUPS = [
    *[BEFORE_THE_FIRST_STEP] * 2,
    *[STEP] * 5,
    *[EVALUATION] * 3,
    *[SAVE] * 3,
    *[BETWEEN_SHARD_AND_COMPLETE] * 5,
    *[LOAD] * 2,
]


def moments() -> list[Moment]:
    """Twenty moments, the same ones every time."""
    chooser = random.Random(20240607)
    chosen = []
    for group in GROUPS:
        place = chooser.choice(sorted(group))
        rank = 0 if place in RANK_0_ONLY else chooser.randrange(2)
        chosen.append(Moment(place, chooser.randint(1, group[place]), rank, chooser.random() < 0.5))
    return chosen


@pytest.fixture(scope="module")
def undisturbed(ranks: Ranks, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    ranks.results("faults:train", tiny.argv(folder, stage=2))
    assert [step.step for step in list_complete(folder / "checkpoints")] == [6, 8]
    return folder


def test_there_are_twenty_moments_over_all_phases() -> None:
    assert len(moments()) == 20
    assert {moment.after for moment in moments()} == {True, False}
    assert {moment.rank for moment in moments()} == {0, 1}


@pytest.mark.parametrize("moment", moments(), ids=str)
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    moment: Moment, ranks: Ranks, tiny: Tiny, undisturbed: Path, tmp_path: Path
) -> None:
    argv = tiny.argv(tmp_path, stage=2)
    if moment.place in LOAD:  # there must be something to load
        stopped = ranks.run("faults:train_and_die", argv, Moment("zhgpt.train.loader:Loader.take", 5, 1))
        assert [step.step for step in list_complete(tmp_path / "checkpoints")] == [3]
        assert stopped[1].code == -9
    killed = ranks.run("faults:train_and_die", argv, moment)
    assert killed[moment.rank].code == -9, killed[moment.rank].output[-2000:]
    # A rank that waits for the dead one in a hand-shake sees nothing of its death: then the launcher ends it (None).
    waits_in_a_hand_shake = moment.place in {**BEFORE_THE_FIRST_STEP, **LOAD}
    allowed = {0} if waits_in_a_hand_shake else {0, None}
    assert killed[1 - moment.rank].code not in allowed, "the other rank must end, and not as if all were well"
    for step in list_complete(tmp_path / "checkpoints"):
        verify_checkpoint(step.path)

    ranks.results("faults:train", argv)
    assert same_numbers(tmp_path) == same_numbers(undisturbed)
    assert_same_checkpoint(tmp_path / "checkpoints" / "step-00000008", undisturbed / "checkpoints" / "step-00000008")
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000006", "step-00000008"]
