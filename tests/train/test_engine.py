"""What the engine leaves out, and that it changes nothing."""

from typing import Any

import pytest
from ranks import Ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture(scope="module")
def outcomes(ranks: Ranks) -> dict[int, dict[str, Any]]:
    """By number of ranks: what each engine averages, and weights with and without it."""
    return {
        size: ranks.results("averaging_engines:train", [0, 1, 2], world_size=size, timeout=180.0)[0] for size in (1, 2)
    }


def test_one_rank_does_not_average_where_nothing_else_hangs_on_it(outcomes) -> None:
    averages = {size: {stage: case["averages"] for stage, case in outcomes[size].items()} for size in (1, 2)}
    assert averages == {1: {0: False, 1: False, 2: True}, 2: {0: True, 1: True, 2: True}}


def test_leaving_the_average_out_changes_no_bit(outcomes) -> None:
    for case in outcomes[1].values():
        assert case["weights"] == case["weights_with_averaging"]
        assert case["weights"] != case["first_weights"]


def test_adding_gradients_at_once_changes_no_bit(outcomes) -> None:
    for size in (1, 2):
        assert outcomes[size][1]["weights"] == outcomes[size][1]["weights_with_late_update"]
