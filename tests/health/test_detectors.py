"""Every detector fires in a real run that provokes it and in none of the healthy ones; recorded by record_runs.py."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_runs import CALIBRATION, FAILING, HEALTHY, RESUMED_WITH, RUNS, STOP_AT, settings, write_recipe
from recorded_runs import RECORDED, Recorded, recorded

from zhgpt.config.loading import load_run_config
from zhgpt.health.detectors import DETECTORS
from zhgpt.health.history import Facts
from zhgpt.health.layers import DEAD_PER_RATE, DEAD_SHARE
from zhgpt.health.learning import FEWEST_RECORDS
from zhgpt.health.watch import Watch
from zhgpt.train.schedule import learning_rate_at

# What each failing run was made for; a run may have more than one thing wrong with it.
PROVOKED: dict[str, str] = {
    "failing_rate": "stuck_at_unigram",
    "failing_diverged": "diverged",
    "failing_spike": "spike",
    "failing_loops": "loops",
    "failing_overfit": "overfitting",
    "failing_eps": "dead_layer",
    "failing_loader": "loader_bound",
    "failing_demo": "stuck_at_unigram",
    "failing_zeros": "dead_layer",
    "failing_heavy": "dead_layer",
    "failing_gradient": "spike",
    "failing_update": "spike",
    "failing_too_slow": "stuck_at_unigram",
    "failing_few_tokens": "stuck_at_unigram",
    "failing_muon_zeros": "dead_layer",
    "failing_muon_diverged": "diverged",
    "failing_muon_demo": "stuck_at_unigram",
}
RATIOS = ("update_ratio", "update_ratio_min", "update_ratio_max")
ALSO = {
    "failing_overfit": {"gap", "copies"},
    "failing_diverged": {"exploding_layer"},
    "failing_muon_diverged": {"exploding_layer"},
}


def test_every_run_that_can_be_made_is_recorded_with_the_settings_that_make_it() -> None:
    assert {path.name.removesuffix(".jsonl.zst") for path in RECORDED.iterdir()} == {*CALIBRATION, *HEALTHY, *FAILING}
    for name, overrides in {**CALIBRATION, **HEALTHY, **FAILING}.items():
        assert recorded(name).overrides == list(overrides), name


@pytest.mark.parametrize("name", RUNS)
def test_the_recipe_of_a_recorded_run_is_what_it_was_trained_with(name: str, tmp_path: Path) -> None:
    recipe, resumed = write_recipe(name, tmp_path), RESUMED_WITH.get(name, ())
    config = load_run_config(recipe, settings(name))
    later = load_run_config(recipe, (*settings(name), *resumed))
    assert config.optim.name == ("muon" if "muon" in name else "adamw")
    for record in recorded(name).records:
        used = later if resumed and record["step"] > STOP_AT[name] else config
        rate = learning_rate_at(record["step"] - 1, used.train.steps, used.optim.peak, used.schedule)
        assert record["learning_rate"] == pytest.approx(rate)


def test_every_detector_is_provoked_by_a_run() -> None:
    assert {*PROVOKED.values(), *(name for names in ALSO.values() for name in names)} == set(DETECTORS)
    assert set(PROVOKED) == set(FAILING)


@pytest.mark.parametrize("name", PROVOKED)
def test_a_run_that_provokes_a_detector_is_found_out(name: str) -> None:
    assert {PROVOKED[name], *ALSO.get(name, ())} <= recorded(name).found()


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_found_in_a_healthy_run(name: str) -> None:
    assert recorded(name).watch().findings == []


def test_a_fine_tuning_rate_is_found_out_at_the_first_evaluation_past_the_patience() -> None:
    (finding,) = recorded("failing_rate").watch().findings
    assert (finding.detector.name, finding.first_step, finding.is_over) == ("stuck_at_unigram", 250, False)
    assert "unigram line (6.94)" in finding.newest.en
    assert "词频基准线（6.94）" in finding.newest.zh


def test_the_demo_at_the_diarys_rate_is_found_out_before_its_first_evaluation() -> None:
    run = recorded("failing_demo")
    (finding,) = run.watch().findings
    assert finding.first_step == 260
    assert finding.first_step < next(record["step"] for record in run.records if "valid_loss" in record) == 400


def test_the_demo_with_muon_at_the_diarys_rate_is_found_out_at_the_same_step() -> None:
    (finding,) = recorded("failing_muon_demo").watch().findings
    assert (finding.detector.name, finding.first_step) == ("stuck_at_unigram", 260)
    assert "never passed 2e-05, which is a rate for fine-tuning" in finding.advice_en
    assert "2e-05 是微调用的学习率" in finding.advice_zh


def test_a_spike_is_one_finding_that_is_over_when_the_run_has_calmed_down() -> None:
    findings = [finding for finding in recorded("failing_spike").watch().findings if finding.detector.name == "spike"]
    assert [finding.is_over for finding in findings] == [True]
    assert 180 < findings[0].first_step <= 185


@pytest.mark.parametrize(
    ("name", "step", "words"),
    [
        ("failing_spike", 185, ("loss", "损失")),
        ("failing_gradient", 125, ("gradient norm", "梯度范数")),
        ("failing_update", 121, ("update norm", "更新范数")),
    ],
)
def test_each_kind_of_spike_begins_a_finding(name: str, step: int, words: tuple[str, str]) -> None:
    (finding,) = recorded(name).watch().findings
    assert (finding.detector.name, finding.first_step) == ("spike", step)
    assert finding.first.en.startswith(f"{words[0]} ")
    assert f"，{words[1]}达到" in finding.first.zh


@pytest.mark.parametrize(
    ("name", "norms"), [("failing_gradient", {"gradient_norm_max"}), ("failing_update", {"update_norm"})]
)
def test_a_norm_that_jumps_is_found_though_nothing_else_jumps(name: str, norms: set[str]) -> None:
    run = recorded(name)
    (finding,) = run.watch().findings
    (record,) = (record for record in run.records if record["step"] == finding.first_step)
    for jumps in (norms, {"loss", "loss_max", "gradient_norm", "gradient_norm_max", "update_norm"} - norms):
        watch = Watch.over(run.facts, [one for one in run.records if one["step"] < finding.first_step])
        begun, _ = watch.see({key: value for key, value in record.items() if key == "step" or key in jumps})
        assert [found.detector.name for found in begun] == ["spike"] * (jumps is norms)


@pytest.mark.parametrize("name", ["failing_zeros", "failing_muon_zeros"])
def test_a_block_of_zeros_is_told_from_those_that_move_by_the_learning_rate(name: str) -> None:
    run = recorded(name)
    (finding,) = run.watch().findings
    assert finding.first.value == 0
    assert "layer 1 moves by 0 of its weights" in finding.first.en
    assert not finding.is_over
    assert all(record["update_ratio"] > record["learning_rate"] for record in run.records)


def test_a_block_that_moves_by_the_learning_rate_is_dead_where_the_others_move_fifty_times_as_far() -> None:
    run = recorded("failing_heavy")
    (finding,) = run.watch().findings
    (record,) = (record for record in run.records if record["step"] == finding.first_step)
    assert finding.first.limit == DEAD_SHARE * record["update_ratio"]
    assert finding.first.value > DEAD_PER_RATE * record["learning_rate"]


@pytest.mark.parametrize("name", ["failing_diverged", "failing_muon_diverged"])
def test_a_layer_that_moves_is_not_dead_however_high_the_rate(name: str) -> None:
    assert "exploding_layer" in recorded(name).found()
    assert "dead_layer" not in recorded(name).found()


def test_a_layer_is_dead_by_the_rate_of_its_own_matrices() -> None:
    run = recorded("healthy_muon")
    lower = replace(run.facts, hidden_rate_factor=0.25)
    slower = [{**one, **{name: one[name] / 8 for name in RATIOS if name in one}} for one in run.records]
    assert "dead_layer" in Recorded(run.overrides, run.facts, slower).found()
    assert Recorded(run.overrides, lower, slower).found() == set()


def test_a_run_shorter_than_the_patience_is_judged_at_its_last_step() -> None:
    run = recorded("failing_too_slow")
    (finding,) = run.watch().findings
    assert (finding.detector.name, finding.first_step) == ("stuck_at_unigram", 240)
    assert "after 240 steps, the run's last: not below" in finding.newest.en
    assert "第 240 步（最后一步）的验证损失" in finding.newest.zh
    assert Recorded(run.overrides, replace(run.facts, steps=None), run.records).found() == set()


def test_too_few_records_are_no_verdict_at_the_last_step() -> None:
    records = [{"step": step, "loss": 9.0} for step in range(1, FEWEST_RECORDS + 1)]
    for count, found in ((FEWEST_RECORDS - 1, 0), (FEWEST_RECORDS, 1)):
        assert len(Watch.over(Facts(unigram_loss=7.0, steps=count), records[:count]).findings) == found


@pytest.mark.parametrize("name", ["failing_diverged", "failing_too_slow"])
def test_nothing_is_found_in_a_range_test_which_is_meant_to_end_ill(name: str) -> None:
    run = recorded(name)
    assert Watch.over(replace(run.facts, schedule="range_test"), run.records).findings == []


def test_findings_of_a_run_that_was_resumed_are_those_of_one_that_was_not() -> None:
    run = recorded("failing_diverged")
    whole = run.watch()
    for step in (7, 33, 60):
        resumed = Watch.over(run.facts, run.records[:step])
        for record in run.records[step:]:
            resumed.see(record)
        assert resumed.findings == whole.findings


def test_a_loss_that_is_no_number_is_divergence_at_once() -> None:
    watch = Watch.over(Facts(), [{"step": step, "loss": 5.0} for step in range(3)])
    begun, _ = watch.see({"step": 3, "loss": math.nan, "loss_max": math.nan})
    assert "diverged" in {finding.detector.name for finding in begun}


def test_quotation_marks_and_nothing_else_are_a_finding() -> None:
    from zhgpt.evaluate.text_statistics import text_statistics

    text = text_statistics("「“““”””」")
    record: Mapping[str, Any] = {
        "step": 50,
        "sample_punctuation_share": text["punctuation_share"],
        "sample_repeated_4gram_share": text["repeated_4gram_share"],
    }
    (finding,) = Watch.over(Facts(), [record]).findings
    assert finding.newest.zh == "样例文本中有 100% 的字符是标点；正常文章约占一到两成。"


def test_detectors_say_nothing_without_records_that_they_can_read() -> None:
    assert Watch.over(Facts(), [{"step": 1}, {"step": 2, "loss": None}, {"step": 3, "valid_loss": 5.0}]).findings == []


def test_every_detector_has_words_in_both_languages() -> None:
    for name, detector in DETECTORS.items():
        assert detector.name == name
        assert all(character >= "\u4e00" for character in detector.title_zh if character.isalpha())
        assert any("\u4e00" <= character <= "\u9fff" for character in detector.advice_zh)
        assert detector.threshold
        assert detector.advice_en.isascii()
