"""How much a difference depends on which documents were held out: its standard error over them."""

import math
from collections.abc import Sequence

import numpy as np

from zhgpt.ablate.student import t_quantile
from zhgpt.train.document_costs import RecordedCosts

FEWEST_DOCUMENTS = 10
"""Fewer say nothing about the text that was not held out."""


def half_width_over_documents(
    pairs: Sequence[tuple[RecordedCosts | None, RecordedCosts | None]], confidence: float
) -> float | None:
    """Half width of the interval of the difference in bits per byte, held-out documents being a sample of all text.

    The difference is a ratio, nats over bytes. Each document's share of it is its difference in nats, averaged over the
    pairs, minus what its number of targets makes expect (Cochran, Sampling Techniques, 1977, section 6.4).

    Args:
        pairs: (variant, baseline) of the same seed.
        confidence: of the interval.

    Returns:
        None where a run has no costs by document, where two runs saw other documents, or where there are too few.
    """
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if len(known) < len(pairs) or not known:
        return None
    names = sorted(known[0][0].documents)
    if len(names) < FEWEST_DOCUMENTS or any(sorted(costs.documents) != names for pair in known for costs in pair):
        return None
    targets = np.array([known[0][0].documents[name][1] for name in names], np.float64)
    differences = np.mean(
        [[one.documents[name][0] - other.documents[name][0] for name in names] for one, other in known], axis=0
    )
    residuals = differences - differences.sum() / targets.sum() * targets
    count = len(names)
    error = math.sqrt(count / (count - 1) * float(np.square(residuals).sum())) / math.log(2) / known[0][0].utf8_bytes
    return t_quantile((1 + confidence) / 2, count - 1) * error
