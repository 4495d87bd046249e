"""What a run of this size is expected to reach, from the scaling curve of the planner, beside what it does."""

from zhgpt.health.history import facts_of
from zhgpt.plan.scaling_curve import expect
from zhgpt.report.drawing import Expected
from zhgpt.report.recorded_run import RecordedRun, number_at

UNIGRAM_OF_THE_FIT = 2.7875
"""Bits per byte of the unigram line of the corpus that the planner's curve was fitted to (scaling_runs.json). Another text
costs more or less at any size: the curve is taken to it by the ratio of the two lines."""
_POINTS = 60
_FEWEST_TOKENS = 1e5
"""Before these the curve says nothing: it was fitted to the ends of runs."""


def expected_of(run: RecordedRun) -> Expected | None:
    """Bits per byte by step, for a run that had ended there; None where size, tokens or the unigram line are not recorded.

    Args:
        run: with its environment.json.
    """
    facts = facts_of(run.environment)
    tokens_per_step, steps = number_at(run.environment, "batch_plan.tokens_per_step"), _last_step(run)
    unigram = number_at(run.environment, "floor.unigram_bits_per_byte")
    if facts.parameters is None or tokens_per_step is None or unigram is None or not steps:
        return None
    to_this_text = unigram / UNIGRAM_OF_THE_FIT
    first = _FEWEST_TOKENS / tokens_per_step
    if first >= steps:
        return None
    chosen = [first * (steps / first) ** (number / (_POINTS - 1)) for number in range(_POINTS)]
    values = [expect(facts.parameters, step * tokens_per_step, facts.train_tokens) for step in chosen]
    return Expected(
        [round(step) for step in chosen],
        [to_this_text * value.bits_per_byte for value in values],
        [to_this_text * value.low for value in values],
        [to_this_text * value.high for value in values],
        values[-1].extrapolated,
    )


def _last_step(run: RecordedRun) -> int:
    return int(run.records[-1]["step"]) if run.records else 0
