"""How much a difference depends on the held-out documents."""

import numpy as np
import pytest

from zhgpt.ablate.documents import half_width_over_documents
from zhgpt.train.document_costs import RecordedCosts

BYTES = 4.0


def costs(nats: list[float], targets: int = 10, first: int = 0) -> RecordedCosts:
    names = {("web", "valid", first + number): (value, targets) for number, value in enumerate(nats)}
    return RecordedCosts(BYTES * targets * len(nats), names)


def test_documents_of_equal_length_give_students_interval_of_their_differences() -> None:
    differences = np.random.default_rng(1).normal(0.5, 2.0, 40)
    base = [50.0] * 40
    found = half_width_over_documents([(costs([50.0 + float(value) for value in differences]), costs(base))], 0.95)
    # 40 documents of 40 bytes: bits per byte of each is nats / ln 2 / 40, and t(0.975, 39) = 2.02269.
    assert found == pytest.approx(2.02269 * differences.std(ddof=1) / np.sqrt(40) / np.log(2) / 40, rel=1e-5)


def test_a_difference_in_proportion_to_the_length_has_no_spread() -> None:
    lengths = list(range(1, 21))
    base = RecordedCosts(1.0, {("web", "valid", n): (5.0 * n, n) for n in lengths})
    one = RecordedCosts(1.0, {("web", "valid", n): (4.5 * n, n) for n in lengths})
    assert half_width_over_documents([(one, base)], 0.95) == pytest.approx(0.0, abs=1e-12)


def test_seeds_are_averaged_before_the_documents_are_compared() -> None:
    wave = [1.0, -1.0] * 10
    base = costs([0.0] * 20)
    opposite = [(costs(wave), base), (costs([-value for value in wave]), base)]
    assert half_width_over_documents(opposite, 0.95) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "pair",
    [
        (None, costs([1.0] * 20)),
        (costs([1.0] * 20), costs([1.0] * 20, first=1)),
        (costs([1.0] * 9), costs([1.0] * 9)),
    ],
)
def test_other_or_too_few_documents_say_nothing(pair: tuple[RecordedCosts | None, RecordedCosts]) -> None:
    assert half_width_over_documents([(costs([1.0] * 20), costs([1.0] * 20)), pair][1:], 0.95) is None
    assert half_width_over_documents([], 0.95) is None
