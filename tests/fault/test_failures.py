"""Divergence, full disks, memory, bugs and misuse: the exit code, the sentence, and what is still there afterwards."""

import errno
import json
import time
from pathlib import Path

import pytest
import torch
from faults import Moment
from ranks import Ranks
from tiny import Tiny, losses, metrics

from zhgpt.checkpoint.layout import list_complete

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def status(folder: Path) -> dict[str, object]:
    return json.loads((folder / "exit_status.json").read_text())


def test_a_loss_that_is_not_finite_ends_the_run_with_3_before_it_is_saved(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    outcomes = ranks.run("faults:train_and_poison", tiny.argv(tmp_path), 5)
    assert [outcome.code for outcome in outcomes] == [3, 3]
    assert "step 6: loss nan" in outcomes[0].output
    assert "Lower optim.learning_rate" in outcomes[0].output
    assert status(tmp_path)["exit_code"] == 3
    assert [step.step for step in list_complete(tmp_path / "checkpoints")] == [3]


def test_a_full_disk_while_saving_ends_the_run_with_74_and_keeps_the_last_checkpoint(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    moment = Moment("zhgpt.checkpoint.save:_durable_entry", 2, 1)
    full = OSError(errno.ENOSPC, "No space left on device")
    argv = tiny.argv(tmp_path, "checkpoint.every_steps=2", stage=2)
    outcomes = ranks.run("faults:train_and_raise", argv, moment, full)
    assert [outcome.code for outcome in outcomes] == [74, 74], outcomes[1].output[-2000:]
    assert "could not hash the checkpoint: rank 1" in outcomes[0].output
    assert "No space left on device" in outcomes[0].output
    assert status(tmp_path)["exit_code"] == 74


def test_a_shard_that_cannot_be_written_ends_all_ranks_at_once_with_74(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    moment = Moment("torch:save", 1, 1)
    started = time.monotonic()
    outcomes = ranks.run("faults:train_and_raise", tiny.argv(tmp_path, stage=2), moment, full)
    assert [outcome.code for outcome in outcomes] == [74, 74], outcomes[1].output[-2000:]
    assert "could not write the checkpoint: rank 1" in outcomes[0].output
    assert time.monotonic() - started < 30
    assert list_complete(tmp_path / "checkpoints") == []


@pytest.mark.parametrize(("step", "complete"), [(5, [3]), (8, [6, 8])])
def test_metrics_that_cannot_be_written_end_all_ranks_together_with_74(
    step: int, complete: list[int], ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    outcomes = ranks.run("faults:train_on_a_disk_that_fills", tiny.argv(tmp_path), step)
    assert [outcome.code for outcome in outcomes] == [74, 74], outcomes[0].output[-2000:]
    reason = "/metrics.jsonl: cannot append a line: No space left on device; free space or repair"
    assert reason in str(status(tmp_path)["reason"])
    assert reason in outcomes[0].output
    assert "Traceback" not in outcomes[0].output + outcomes[1].output
    assert [folder.step for folder in list_complete(tmp_path / "checkpoints")] == complete
    ranks.results("faults:train", tiny.argv(tmp_path))
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 9 if step == 5 else 8))


def test_an_update_left_out_between_two_metrics_lines_is_noticed(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    argv = tiny.argv(tmp_path, "log.every_steps=100", "train.precision=bf16")
    outcomes = ranks.run("faults:train_with_a_poisoned_gradient", argv, 4)
    assert [outcome.code for outcome in outcomes] == [3, 3], outcomes[0].output[-2000:]
    assert "step 6: loss 6." in outcomes[0].output
    assert "1 update(s) left out by DeepSpeed since the line before" in outcomes[0].output
    assert [step.step for step in list_complete(tmp_path / "checkpoints")] == [3]


def test_memory_that_runs_out_ends_the_run_with_76_and_the_nearest_setting(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    moment = Moment("zhgpt.train.training:forward", 3, 1)
    outcomes = ranks.run(
        "faults:train_and_raise", tiny.argv(tmp_path), moment, torch.OutOfMemoryError("2.00 GiB asked")
    )
    assert outcomes[1].code == 76
    assert outcomes[0].code not in (0, None)
    assert "out of memory with train.micro_batch_size=4" in outcomes[1].output
    assert "try train.micro_batch_size=2" in outcomes[1].output
    assert status(tmp_path)["exit_code"] == 76


def test_a_rank_that_stops_answering_ends_the_others_after_the_time_out_in_zeros_own_groups_too(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    moment = Moment("zhgpt.train.training:forward", 3, 1)  # before the backward pass, whose sums go over ZeRO's group
    argv = tiny.argv(tmp_path, "launch.timeout_seconds=3", stage=2)
    started = time.monotonic()
    first, _ = ranks.run("faults:train_and_stop_answering", argv, moment)
    assert first.code == 1, first.output[-2000:]
    assert time.monotonic() - started < 60
    assert "error: another rank has not answered for 3 s (launch.timeout_seconds); look for the rank" in first.output
    assert "Traceback" not in first.output
    assert status(tmp_path)["exit_code"] == 1


def test_a_bug_on_one_rank_keeps_its_traceback_and_ends_every_rank(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    moment = Moment("zhgpt.train.training:forward", 3, 1)
    outcomes = ranks.run("faults:train_and_raise", tiny.argv(tmp_path), moment, KeyError("a bug"))
    assert outcomes[1].code == 1
    assert outcomes[0].code not in (0, None)
    assert "the connection to another rank broke" in outcomes[0].output
    assert "Traceback" in outcomes[1].output
    assert status(tmp_path)["reason"] == "KeyError: 'a bug'"


def test_another_world_size_or_stage_is_refused_naming_both(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path))
    more = "train.steps=10"
    (alone,) = ranks.run("faults:train", tiny.argv(tmp_path, more), world_size=1)
    assert alone.code == 2
    assert "world_size is 1 but was saved as 2" in alone.output
    other = ranks.run("faults:train", tiny.argv(tmp_path, more, stage=3))
    assert [outcome.code for outcome in other] == [2, 2]
    assert "zero_stage is 3 but was saved as 1" in other[0].output
    ranks.results("faults:train", tiny.argv(tmp_path, more))
    assert len(losses(tmp_path)) == 10


def test_a_damaged_checkpoint_is_refused_and_an_older_one_can_be_named(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path))
    newest = tmp_path / "checkpoints" / "step-00000008"
    shard = next((newest / "engine").glob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    refused = ranks.run("faults:train", tiny.argv(tmp_path, "train.steps=10"))
    assert [outcome.code for outcome in refused] == [65, 65]
    assert "damaged checkpoint" in refused[0].output
    assert shard.name in refused[0].output
    older = str(tmp_path / "checkpoints" / "step-00000006")
    (first, _) = ranks.run("faults:train", tiny.argv(tmp_path, resume=older))
    assert first.code == 0
    assert (
        "step-00000008: of later steps than 6, where this run goes on; moved to checkpoints/set_aside/" in first.output
    )
    assert len(losses(tmp_path)) == 8
    assert [step.step for step in list_complete(tmp_path / "checkpoints")] == [6, 8]


def test_a_resume_path_without_a_checkpoint_fails(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcomes = ranks.run("faults:train", tiny.argv(tmp_path / "run", resume=str(tmp_path / "empty")))
    assert [outcome.code for outcome in outcomes] == [65, 65]
    assert "no complete checkpoint" in outcomes[0].output
    outcomes = ranks.run("faults:train", tiny.argv(tmp_path / "run", resume=str(tmp_path / "nowhere")))
    assert [outcome.code for outcome in outcomes] == [66, 66]


def test_resume_never_refuses_a_folder_with_a_run_in_it(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path))
    outcomes = ranks.run("faults:train", tiny.argv(tmp_path, resume="never"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert "--resume is never" in outcomes[0].output


def test_a_finished_run_started_again_ends_at_once_with_0(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    started = time.monotonic()
    ranks.results("faults:train", tiny.argv(tmp_path))
    assert time.monotonic() - started < 30
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_expectations_about_ranks_and_hosts_are_checked_before_a_model_is_built(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    outcomes = ranks.run("faults:train", tiny.argv(tmp_path, "launch.hosts=2"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert "2 hosts were asked for, but the 2 ranks run on 1" in outcomes[0].output
    assert status(tmp_path)["exit_code"] == 2
    outcomes = ranks.run("faults:train", tiny.argv(tmp_path, "launch.world_size=4"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert "launch.world_size asks for 4 ranks" in outcomes[0].output
    assert not (tmp_path / "checkpoints").exists()


def test_a_missing_accelerator_is_refused(ranks: Ranks, tiny: Tiny, tmp_path: Path) -> None:
    (outcome,) = ranks.run("faults:train", tiny.argv(tmp_path, "launch.accelerator=cuda"), world_size=1)
    assert outcome.code == 2
    assert "launch.accelerator is cuda, but torch" in outcome.output


def test_another_seed_is_refused_because_it_is_another_order_of_samples(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path))
    outcomes = ranks.run("faults:train", tiny.argv(tmp_path, "run.seed=8", "train.steps=10"))
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert "seed is 8 but was saved as 7" in outcomes[0].output


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_optimizer_settings_changed_before_a_resume_count(ranks: Ranks, tiny: Tiny, tmp_path: Path, stage: int) -> None:
    ranks.results("faults:train", tiny.argv(tmp_path, "train.steps=3", stage=stage))
    changed = ("optim.betas=[0.5,0.6]", "optim.weight_decay=0.0", "optim.gradient_clipping=0.25", "optim.eps=1e-6")
    found = ranks.results("faults:train_and_read_settings", tiny.argv(tmp_path, *changed, stage=stage))
    for betas, eps, decays, clipping in found:
        assert (betas, eps, decays) == ((0.5, 0.6), 1e-6, [0.0, 0.0])
        assert clipping == (0.25 if stage else 0.0), (
            "DeepSpeed's bound; at stage 0 each step takes it from the settings"
        )
