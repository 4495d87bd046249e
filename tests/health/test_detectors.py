"""Every detector fires in a real run that provokes it and in none of the healthy ones; recorded by record_runs.py."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from record_runs import CALIBRATION, FAILING, HEALTHY
from recorded_runs import RECORDED, recorded

from zhgpt.health.detectors import DETECTORS
from zhgpt.health.history import Facts
from zhgpt.health.watch import Watch

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
}
ALSO = {"failing_overfit": {"gap", "copies"}, "failing_diverged": {"exploding_layer"}}


def test_every_run_that_can_be_made_is_recorded_with_the_settings_that_make_it() -> None:
    assert {path.name.removesuffix(".jsonl.zst") for path in RECORDED.iterdir()} == {*CALIBRATION, *HEALTHY, *FAILING}
    for name, overrides in {**CALIBRATION, **HEALTHY, **FAILING}.items():
        assert recorded(name).overrides == list(overrides), name


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


def test_a_spike_is_one_finding_that_is_over_when_the_run_has_calmed_down() -> None:
    findings = [finding for finding in recorded("failing_spike").watch().findings if finding.detector.name == "spike"]
    assert [finding.is_over for finding in findings] == [True]
    assert 180 < findings[0].first_step <= 185


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
