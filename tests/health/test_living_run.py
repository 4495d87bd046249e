"""A run that fails says so while it lives, once, also when it is stopped and goes on."""

import json
import signal
from pathlib import Path

import pytest
from faults import Moment
from ranks import Ranks
from tiny import Tiny, metrics

from zhgpt.health.learning import PATIENCE_STEPS, STUCK_AT_UNIGRAM
from zhgpt.report.page import findings_in
from zhgpt.report.recorded_run import read_run

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def test_a_run_at_a_fine_tuning_rate_is_told_off_once_and_again_when_it_is_resumed(
    ranks: Ranks, tiny: Tiny, tmp_path: Path
) -> None:
    words = ("optim.learning_rate=2e-5", "train.steps=270", "evaluate.every_steps=130", "checkpoint.every_steps=1000")
    argv = tiny.argv(tmp_path, *words, "log.every_steps=10", "evaluate.max_new_tokens=40")
    stop = (Moment("zhgpt.train.loop:train_step", 262, 0, after=True), int(signal.SIGTERM))
    (stopped,) = ranks.run("faults:train_and_signal", argv, *stop, world_size=1)
    (resumed,) = ranks.run("faults:train", argv, world_size=1)
    assert (stopped.code, resumed.code) == (75, 0), resumed.output[-2000:]
    for outcome in (stopped, resumed):
        assert outcome.output.count(f"! {STUCK_AT_UNIGRAM.title_zh}（stuck_at_unigram）：") == 1
        assert outcome.output.count("2e-05 是微调用的学习率") == 1
        assert outcome.output.count("which is a rate for fine-tuning: pretraining takes about") == 1
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    found = [line for line in lines if line["event"] == "finding" and line["detector"] == "stuck_at_unigram"]
    assert [line["step"] for line in found] == [PATIENCE_STEPS]
    assert found[0]["value"] > found[0]["limit"]
    assert found[0]["sentence_zh"].startswith("第 250 步的训练损失为 ")
    evaluated = [line for line in metrics(tmp_path) if "valid_loss" in line]
    assert all(
        {"sample_repeated_4gram_share", "sample_punctuation_share", "memorised_share"} <= set(line)
        for line in evaluated
    )
    assert [
        finding.first_step for finding in findings_in(read_run(tmp_path)) if finding.detector is STUCK_AT_UNIGRAM
    ] == [250]
