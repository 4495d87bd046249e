"""What a run of this size is expected to reach, from the scaling curve of the planner, beside what it does."""

import numpy as np

from zhgpt.health.history import facts_of
from zhgpt.plan.scaling_curve import expect
from zhgpt.report.drawing import Expected
from zhgpt.report.recorded_run import RecordedRun, number_at

_POINTS = 60
_FEWEST_TOKENS = 1e5
"""Before these the curve says nothing: it was fitted to the ends of runs."""


def expected_of(run: RecordedRun) -> Expected | None:
    """Bits per byte by step, for a run that had ended there; None where size, tokens or the unigram line are not recorded.

    Args:
        run: with its environment.json.
    """
    facts = facts_of(run.environment)
    steps, tokens = _progress(run)
    unigram = number_at(run.environment, "floor.unigram_bits_per_byte")
    if facts.parameters is None or unigram is None or not tokens or tokens[-1] <= _FEWEST_TOKENS:
        return None
    chosen = np.geomspace(_FEWEST_TOKENS, tokens[-1], _POINTS)
    values = [expect(facts.parameters, float(count), facts.train_tokens, unigram) for count in chosen]
    return Expected(
        np.interp(chosen, tokens, steps).round().astype(int).tolist(),
        [value.bits_per_byte for value in values],
        [value.low for value in values],
        [value.high for value in values],
        values[-1].extrapolated,
    )


def _progress(run: RecordedRun) -> tuple[list[float], list[float]]:
    """Steps and tokens of the records, from (0, 0) on; a batch may have grown in between."""
    steps, tokens = [0.0], [0.0]
    for record in run.records:
        consumed = number_at(record, "consumed_tokens")
        if consumed is not None:
            steps.append(float(record["step"]))
            tokens.append(consumed)
    return steps, tokens
