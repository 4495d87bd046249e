"""The facts that detectors read come from environment.json, as far as they are there."""

from typing import Any

import pytest
from tiny_mixture import build

from zhgpt.config.schema import OptimSection
from zhgpt.health.history import Facts, History, facts_of
from zhgpt.train.optimizer import parameter_groups
from zhgpt.train.parameter_roles import list_groups


@pytest.mark.parametrize(
    ("optim", "width_ratio", "factor"),
    [
        (OptimSection(name="adamw", learning_rate=1e-3), 1.0, 1.0),
        (OptimSection(name="muon", learning_rate=1e-3), 1.0, 1.0),
        (OptimSection(name="muon", learning_rate=1e-3, muon_learning_rate=2.5e-4), 1.0, 0.25),
        (OptimSection(name="adamw", learning_rate=1e-3, embedding_learning_rate=1e-4), 1.0, 1.0),
        (OptimSection(name="adamw", learning_rate=1e-3), 4.0, 0.25),
        (OptimSection(name="adamw", learning_rate=1e-3), 0.5, 2.0),
        (OptimSection(name="muon", learning_rate=1e-3), 4.0, 0.5),
    ],
)
def test_the_rate_of_the_hidden_matrices_is_known_from_the_list_of_groups(
    optim: OptimSection, width_ratio: float, factor: float
) -> None:
    groups = list_groups(parameter_groups(build("reference"), optim, width_ratio))
    facts = facts_of({"optimizer_groups": groups, "batch_plan": {"steps": 7}})
    assert facts.hidden_rate_factor == pytest.approx(factor)
    assert History(facts).hidden_rate(1e-3) == pytest.approx(factor * 1e-3)
    assert facts.steps == 7


@pytest.mark.parametrize("groups", [None, [], "hidden", [{"roles": ["hidden"]}], [{"roles": None}], ["hidden"]])
def test_an_account_without_rates_leaves_the_rate_as_the_records_have_it(groups: Any) -> None:
    facts = facts_of({"optimizer_groups": groups})
    assert facts == Facts()
    assert History(facts).hidden_rate(1e-3) == 1e-3


@pytest.mark.parametrize(
    ("schedule", "is_range_test"), [("range_test", True), ("wsd", False), (None, False), (3, False)]
)
def test_a_range_test_is_known_from_the_schedule(schedule: Any, is_range_test: bool) -> None:
    assert facts_of({"schedule": schedule}).is_range_test is is_range_test


def test_a_record_is_the_last_where_the_plan_ends() -> None:
    history = History(Facts(steps=3))
    for step, is_last in ((1, False), (2, False), (3, True)):
        history.add({"step": step})
        assert history.is_last is is_last
    assert not History(Facts(), [{"step": 3}]).is_last
