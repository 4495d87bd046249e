"""How long a run with stages takes: each with its own micro-steps and rows, a branch from its first step on."""

import pytest

from zhgpt.config.deepspeed_json import load_deepspeed_json
from zhgpt.config.loading import load_run_config
from zhgpt.plan.duration import last_step_within
from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.predict import Prediction, Text, Wishes, predict

RAMP = "train.batch_ramp=[{global_batch_tokens: 65536, until_step: 4000}]"
ROWS = "data.sequence_length_warmup=[{sequence_length: 256, until_step: 2000}]"


LENGTH = ("train.steps=4800", "train.global_batch_tokens=524288")


def planned(*overrides: str) -> Prediction:
    config = load_run_config("configs/qwen3_124m.yaml", (*LENGTH, *overrides))
    ds_json = load_deepspeed_json("ds_configs/zero1.json")
    return predict(config, ds_json, Cluster(GPUS["H100"]), Text(None, 32_000), Wishes(None, 2.0))


def test_without_stages_every_step_is_the_full_batch() -> None:
    plain = planned()
    assert plain.seconds == pytest.approx(plain.step.total * plain.batch.steps)


def test_a_ramp_counts_its_smaller_batches() -> None:
    ramp = planned(RAMP)
    small, full = ramp.stages
    assert (small.first_step, small.steps, full.first_step, full.steps) == (0, 4000, 4000, 800)
    assert small.step.total < full.step.total / 7  # an eighth of the micro-steps, and one update
    assert full.step == ramp.step
    assert ramp.seconds == pytest.approx(4000 * small.step.total + 800 * full.step.total)


def test_cost_and_energy_count_the_ramp() -> None:
    plain, ramp = planned(), planned(RAMP)
    share = ramp.seconds / plain.seconds
    assert share < 0.3
    assert ramp.money == pytest.approx((plain.money or 0) * share)
    assert ramp.kilowatt_hours == pytest.approx((plain.kilowatt_hours or 0) * share)


def test_short_rows_are_as_many_tokens_with_less_attention() -> None:
    short, full = planned(ROWS).stages
    assert (short.steps, full.steps) == (2000, 2800)
    assert 0.5 * full.step.total < short.step.total < full.step.total


def test_a_branch_takes_its_own_steps_only() -> None:
    branch = planned("train.branch_from=runs/x/checkpoints/step-00004000")
    assert [(stage.first_step, stage.steps) for stage in branch.stages] == [(4000, 800)]
    assert branch.seconds == pytest.approx(800 * branch.step.total)


def test_stages_that_the_run_does_not_reach_take_no_time() -> None:
    assert [stage.steps for stage in planned(RAMP, "train.steps=3000").stages] == [3000]


def test_hours_reach_the_step_that_the_stages_say() -> None:
    times = planned(RAMP).stages
    first = times[0].seconds
    assert last_step_within(times, first / 2) == pytest.approx(2000, abs=1)
    assert last_step_within(times, first + 10.5 * times[1].step.total) == 4010
    assert last_step_within(times, 1e12) == 4800
    assert last_step_within(planned("train.branch_from=runs/x/checkpoints/step-00004000").stages, 0.0) == 4000
