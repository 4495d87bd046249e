"""Which documents are nearest a bound."""

import pytest

from megatron_style_data.cleaning.chain import PreparedStep, Stage
from megatron_style_data.cleaning.measures import Measure, Outcome
from megatron_style_data.cleaning.samples import Samples
from megatron_style_data.document import Document


def nearest(values: list[float], low: float | None, high: float | None, near: int) -> dict[str, list[float]]:
    """What is kept as nearest of documents with these values, by the name of the sample."""
    samples = Samples(a_step=0, near=near, characters=10)
    for number, value in enumerate(values):
        outcome = Outcome("天下", (Measure("characters", value, low=low, high=high),))
        stage = Stage(
            PreparedStep("length", lambda text, fields, outcome=outcome: outcome), "天下", outcome, outcome.failed
        )
        samples.take(Document("天下", "a", "a", number), stage)
    names = sorted(name for name in samples.kept if name.startswith("near/"))
    return {name.removeprefix("near/length/"): [entry["value"] for entry in samples.entries(name)] for name in names}


def test_each_bound_has_its_own_documents_on_both_sides() -> None:
    """Relative to one of the two, 20,000 was nearer a bound than 100, and no short document was ever shown."""
    values = [10, 45, 49, 50, 60, 100, 20_000, 4e6, 5e6, 6e6, 9e6]
    assert nearest(values, low=50, high=5e6, near=2) == {
        "characters < 50/dropped": [49, 45],
        "characters < 50/kept": [50, 60],
        "characters > 5,000,000/dropped": [6e6, 9e6],
        "characters > 5,000,000/kept": [5e6, 4e6],
    }


@pytest.mark.parametrize(("low", "high"), [(0, None), (None, 0)])
def test_a_bound_of_zero_is_a_bound(low: float | None, high: float | None) -> None:
    found = nearest([0, 0.5], low=low, high=high, near=3)
    assert sum(map(len, found.values())) == 2
