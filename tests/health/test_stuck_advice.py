"""What a run at the unigram line is told to do follows from its learning rate and its tokens a parameter."""

from dataclasses import replace
from typing import Any

import pytest
from recorded_runs import Recorded, recorded

from zhgpt.health.history import Facts
from zhgpt.health.telling import event_fields, lines_of

LOW_EN, LOW_ZH = "optim.learning_rate", "请调高（optim.learning_rate"
FEW_EN, FEW_ZH = "tokens a parameter where about 20 is usual", "每个参数只分到"
STOP_EN, STOP_ZH = "Stop this run", "请停掉这次训练"
ENOUGH: dict[str, Any] = {"tokens_per_parameter": 20.0}


def advice(name: str, **facts: Any) -> tuple[str, str]:
    """Of a recorded run's only finding, other facts given."""
    run = recorded(name)
    (finding,) = Recorded(run.overrides, replace(run.facts, **facts), run.records).watch().findings
    assert finding.detector.name == "stuck_at_unigram"
    return finding.advice_en, finding.advice_zh


def test_a_fine_tuning_rate_is_named_as_one_with_what_the_size_takes() -> None:
    en, zh = advice("failing_rate", **ENOUGH)
    assert en == (
        "The learning rate of the blocks' matrices never passed 2e-05, which is a rate for fine-tuning: pretraining takes about "
        "1.4e-03 at this size. Raise it (optim.learning_rate). Stop this run; waiting will not help."
    )
    assert zh == (
        "各层矩阵的学习率最高只有 2e-05，2e-05 是微调用的学习率；从头预训练时，这个大小约 1.4e-03。请调高"
        "（optim.learning_rate）。请停掉这次训练，等下去没有用。"
    )


def test_a_run_with_a_good_rate_and_few_tokens_is_told_of_the_tokens_alone() -> None:
    en, zh = advice("failing_few_tokens")
    assert FEW_EN in en
    assert FEW_ZH in zh
    assert LOW_EN not in en
    assert LOW_ZH not in zh
    assert STOP_EN not in en


def test_a_low_rate_and_few_tokens_are_both_told_and_at_the_last_step_there_is_nothing_to_stop() -> None:
    en, zh = advice("failing_too_slow")
    for text, words, stop in ((en, (LOW_EN, FEW_EN), STOP_EN), (zh, (LOW_ZH, FEW_ZH), STOP_ZH)):
        assert all(word in text for word in words)
        assert stop not in text


@pytest.mark.parametrize(("factor", "is_low"), [(1.0, False), (0.04, True)])
def test_the_rate_that_counts_is_that_of_the_hidden_matrices(factor: float, is_low: bool) -> None:
    en, zh = advice("failing_few_tokens", hidden_rate_factor=factor)
    assert ("which is low: " in en) == is_low
    assert ("偏低的学习率" in zh) == is_low
    assert ("optim.muon_learning_rate, model.mup_base_width" in en) == is_low


def test_where_neither_says_why_the_advice_goes_to_what_else_may_be_wrong() -> None:
    en, zh = advice("failing_few_tokens", **ENOUGH)
    assert en.startswith("Neither the learning rate nor the tokens a parameter say why. Look at optim.eps")
    assert "zhgpt data inspect PREFIX --document 0" in zh


def test_a_rate_is_one_of_fine_tuning_also_where_the_size_is_not_known() -> None:
    en, zh = advice("failing_rate", parameters=None, tokens_per_parameter=None)
    assert "1e-4 to 5e-3, the smaller the model the more" in en
    assert "2e-05 是微调用的学习率；从头预训练时，1e-4 到 5e-3，模型越小越大" in zh


def test_console_and_event_carry_the_advice_of_the_case() -> None:
    (finding,) = recorded("failing_few_tokens").watch().findings
    assert [line.strip() for line in lines_of(finding)][1::2] == [finding.advice_zh, finding.advice_en]
    fields = event_fields(finding)
    assert (fields["advice"], fields["advice_zh"]) == (finding.advice_en, finding.advice_zh)
    assert FEW_EN in fields["advice"]


def test_a_record_without_a_rate_asks_for_no_other_rate() -> None:
    from zhgpt.health.watch import Watch

    records = [{"step": step, "loss": 9.0} for step in range(1, 20)]
    (finding,) = Watch.over(Facts(unigram_loss=7.0, steps=19), records).findings
    assert finding.advice_en.startswith("Neither")
