"""Whether a run learns, from its numbers."""

import math
from typing import Any

import pytest

from zhgpt.evaluate.learning_verdict import Facts, Floor, judge, running_median, series

FLOOR = Floor(unigram_loss=7.0, bigram_loss=5.0)


def _falling(start: float, end: float, records: int = 60, rate: float = 6e-4) -> list[dict[str, Any]]:
    """A loss that decays from ``start`` to ``end`` and lies flat for most of the run, with noise on it."""
    return [
        {
            "step": 10 * n + 10,
            "loss": end + (start - end) * math.exp(-12 * n / records) + 0.02 * (n % 3 - 1),
            "learning_rate": rate,
        }
        for n in range(records)
    ]


def test_a_loss_far_below_the_unigram_line_is_learning() -> None:
    verdict = judge(_falling(10.4, 4.0), FLOOR)
    assert verdict.kind == "learning"
    assert verdict.sentence == (
        "It learns: training loss 4.00 is 3.00 nats below the unigram line (7.00) and below the bigram line (5.00)."
    )
    assert verdict.advice == verdict.remarks == ()


def test_learning_says_when_the_bigram_line_is_not_beaten_yet() -> None:
    verdict = judge(_falling(10.4, 6.0), FLOOR)
    assert verdict.sentence.endswith("nats below the unigram line (7.00) but still above the bigram line (5.00).")


def test_learning_needs_no_bigram_line_and_few_records() -> None:
    verdict = judge([{"step": 100, "loss": 5.0}], Floor(unigram_loss=7.0))
    assert verdict.kind == "learning"
    assert verdict.sentence == "It learns: training loss 5.00 is 2.00 nats below the unigram line (7.00)."


def test_the_held_out_loss_is_compared_when_it_is_recent() -> None:
    records = [*_falling(10.4, 4.0), {"step": 600, "valid_loss": 4.6}]
    assert "held-out loss 4.60 is 2.40 nats" in judge(records, FLOOR).sentence
    old = [{"step": 10, "valid_loss": 9.9}, *_falling(10.4, 4.0)]
    assert "training loss 4.00" in judge(old, FLOOR).sentence


@pytest.mark.parametrize("end", [6.7, 7.0, 7.3])
def test_a_flat_loss_near_the_unigram_line_has_learnt_frequencies_only(end: float) -> None:
    verdict = judge(_falling(10.4, end, rate=2e-5), FLOOR, Facts(tokens_per_parameter=0.5))
    assert verdict.kind == "stuck_at_unigram"
    assert verdict.sentence.startswith(
        "Stuck at the unigram line: the model has learnt token frequencies only (training loss "
    )
    assert verdict.advice == (
        "The learning rate never passed 2.0e-05: that is a rate for fine-tuning. Pretraining from noise wants about "
        "3e-4 to 1e-3 at these sizes: set optim.learning_rate.",
        "The whole run has 0.5 tokens a parameter; about 20 is usual. Take more text, more steps, or a smaller model.",
    )


def test_a_stuck_run_with_usual_settings_is_sent_to_look_at_its_data() -> None:
    verdict = judge(_falling(10.4, 7.0), FLOOR, Facts(tokens_per_parameter=20.0))
    assert verdict.advice == (
        "Raise optim.learning_rate; then look whether text and tokenizer fit each other: `zhgpt data inspect PREFIX "
        "--document 0` must print readable text.",
    )


def test_a_flat_loss_above_the_unigram_line_is_stuck_above_it() -> None:
    verdict = judge(_falling(10.4, 9.0), FLOOR)
    assert verdict.kind == "stuck_above_unigram"
    assert verdict.sentence.startswith(
        "Stuck above the unigram line: the model has not even learnt token frequencies ("
    )


def test_a_loss_that_still_falls_towards_the_line_is_too_short() -> None:
    records = [{"step": n, "loss": 10.4 - 0.1 * n} for n in range(30)]
    verdict = judge(records, FLOOR)
    assert verdict.kind == "too_short"
    assert verdict.sentence == (
        "Too short to say: the loss still falls and is not below the unigram line yet (training loss 7.60, "
        "unigram line 7.00)."
    )


def test_a_plateau_while_the_learning_rate_warms_up_is_too_short() -> None:
    records = [{"step": n, "loss": 10.4, "learning_rate": n * 1e-6} for n in range(1, 30)]
    verdict = judge(records, FLOOR)
    assert verdict.kind == "too_short"
    assert verdict.sentence == (
        "Too short to say: the learning rate is still warming up (training loss 10.40, unigram line 7.00)."
    )


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([], "Too short to say: no loss has been recorded yet."),
        ([{"step": 1, "loss": None}], "Too short to say: no loss has been recorded yet."),
        (
            [{"step": 1, "loss": 10.4}],
            "Too short to say: 1 record so far (training loss 10.40, unigram line 7.00).",
        ),
        (
            [{"step": n, "loss": 7.0} for n in range(7)],
            "Too short to say: 7 records so far (training loss 7.00, unigram line 7.00).",
        ),
    ],
)
def test_a_few_records_are_too_short(records: list[dict[str, Any]], sentence: str) -> None:
    verdict = judge(records, FLOOR)
    assert (verdict.kind, verdict.sentence) == ("too_short", sentence)


def test_without_a_floor_nothing_is_claimed() -> None:
    verdict = judge(_falling(10.4, 4.0), Floor())
    assert verdict.kind == "no_floor"
    assert verdict.sentence == "Cannot say: the loss fell from 10.38 to 4.00, but no unigram line was recorded."
    assert verdict.advice == (
        "Build the dataset with `zhgpt data build`: it measures the line that failing runs stick to.",
    )
    assert judge([{"step": 1, "loss": 9.0}], Floor()).sentence.startswith("Cannot say: the loss is 9.00, but")


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_loss_that_ends_as_no_number_diverged(odd: float) -> None:
    records = [*_falling(10.4, 4.0), {"step": 610, "loss": odd}, {"step": 620, "loss": odd}]
    verdict = judge(records, FLOOR)
    assert verdict.kind == "diverged"
    assert verdict.sentence == (
        f"Diverged: the loss is {odd} since step 610; the last finite one was 4.02 at step 600."
    )
    assert "Lower optim.learning_rate (halve it)" in verdict.advice[0]
    assert verdict.advice[1] == "Resume from a checkpoint before the rise, or start again."


def test_a_loss_that_rose_before_it_was_no_number_says_where_it_was_best() -> None:
    records = [*_falling(10.4, 4.0), {"step": 610, "loss": 8.0}, {"step": 620, "loss": math.nan}]
    assert judge(records, FLOOR).sentence == (
        "Diverged: the loss is nan since step 620; the last finite one was 8.00 at step 610, the best 4.00 at step 590."
    )


def test_a_run_of_nothing_but_nan_diverged_from_the_start() -> None:
    verdict = judge([{"step": 1, "loss": math.nan}], FLOOR)
    assert verdict.sentence == "Diverged: the loss is nan since step 1."


def test_a_run_that_ended_as_diverged_is_believed() -> None:
    verdict = judge(_falling(10.4, 4.0), FLOOR, Facts(failure="step 601: loss nan, gradient norm nan"))
    assert (verdict.kind, verdict.sentence) == ("diverged", "Diverged: step 601: loss nan, gradient norm nan")


def test_a_range_test_is_not_judged_unless_it_ended_as_diverged() -> None:
    records = [*_falling(10.4, 4.0), *({"step": 610 + 10 * n, "loss": 9.1} for n in range(10))]
    assert judge(records, FLOOR).kind == "diverged"
    verdict = judge(records, FLOOR, Facts(is_range_test=True))
    assert (verdict.kind, verdict.advice, verdict.remarks) == ("range_test", (), ())
    failed = judge(records, FLOOR, Facts(failure="step 601: loss nan, gradient norm nan", is_range_test=True))
    assert (failed.kind, failed.sentence) == ("diverged", "Diverged: step 601: loss nan, gradient norm nan")


def test_a_loss_that_rises_again_and_stays_up_diverged() -> None:
    records = _falling(10.4, 4.0) + [{"step": 610 + 10 * n, "loss": 6.1} for n in range(10)]
    verdict = judge(records, FLOOR)
    assert verdict.kind == "diverged"
    assert verdict.sentence == "Diverged: the loss was down to 4.00 at step 590 and is back up at 6.10."


def test_a_single_spike_is_no_divergence_and_a_single_nan_is_remarked() -> None:
    records = _falling(10.4, 4.0)
    records[-1] = {"step": 600, "loss": 9.0}
    records[30] = {"step": 310, "loss": math.nan}
    verdict = judge(records, FLOOR)
    assert verdict.kind == "learning"
    assert verdict.remarks == ("The loss was not a finite number at 1 recorded step(s), first at step 310.",)


def test_a_held_out_loss_that_rises_while_training_falls_is_remarked() -> None:
    records = _falling(10.4, 2.0)
    for index, held_out in ((14, 4.5), (29, 4.1), (44, 4.3), (59, 4.6)):
        records[index]["valid_loss"] = held_out
    verdict = judge(records, FLOOR)
    assert verdict.kind == "learning"
    assert verdict.remarks == (
        "Held-out loss was best at step 300 (4.10) and is 4.60 now while the training loss went on falling: the text "
        "is repeated too often for this model. Take the checkpoint near that step, or more text.",
    )


def test_samples_that_repeat_or_consist_of_punctuation_are_remarked() -> None:
    samples: list[dict[str, Any]] = [
        {"repeated_4gram_share": 0.9, "punctuation_share": 0.7},
        {"repeated_4gram_share": 0.4, "punctuation_share": 0.5},
        {"text": "no statistics"},
    ]
    verdict = judge(_falling(10.4, 4.0), FLOOR, Facts(samples=samples))
    assert verdict.remarks == (
        "The newest samples repeat themselves: 65% of their 4-grams.",
        "The newest samples are mostly punctuation: 60% of their characters.",
    )


def test_series_leaves_out_what_is_no_number() -> None:
    records: list[dict[str, Any]] = [
        {"step": 1, "loss": 2},
        {"step": 2},
        {"step": 3, "loss": None},
        {"step": 4, "loss": True},
    ]
    assert series(records, "loss") == [(1, 2.0)]


def test_the_running_median_ignores_one_spike() -> None:
    assert running_median([1.0, 1.0, 9.0, 1.0, 1.0], 3) == [1.0, 1.0, 1.0, 1.0, 1.0]
