"""What is read from runs: training time over starts, points of curves, values between them."""

from collections.abc import Callable

import pytest
from made_up_ablation import MadeUp, planned

from zhgpt.ablate.observed import Point, bits_at, observe, training_seconds

POINTS = (
    Point(5, 500, 0.5, 2.0, 5e5, 6.0, 3.0),
    Point(10, 1000, 1.0, 4.0, 1e6, 4.0, 2.0),
    Point(20, 2000, 3.0, 8.0, 2e6, 3.0, 1.5),
)


@pytest.mark.parametrize(
    ("basis", "place", "bits"),
    [
        ("tokens", 500, 3.0),
        ("tokens", 750, 2.5),
        ("tokens", 2000, 1.5),
        ("seconds", 2.0, 1.75),
        ("cpu_seconds", 5.0, 1.875),
        ("flops", 7.5e5, 2.5),
        ("tokens", 499, None),
        ("tokens", 2001, None),
    ],
)
def test_between_evaluations_values_lie_on_a_straight_line(basis: str, place: float, bits: float | None) -> None:
    assert bits_at(POINTS, basis, place) == bits  # type: ignore[arg-type]


def test_a_single_evaluation_is_known_at_its_own_place_only() -> None:
    assert bits_at(POINTS[:1], "tokens", 500) == 3.0
    assert bits_at(POINTS[:1], "tokens", 501) is None


def test_training_time_adds_up_over_starts_and_leaves_pauses_out() -> None:
    """`elapsed_seconds` starts anew at each start and holds evaluations; tokens and their rate do not."""
    records = [
        {"step": 1, "consumed_tokens": 100, "tokens_per_second": 50.0, "elapsed_seconds": 9.0},
        {"step": 3, "consumed_tokens": 300, "tokens_per_second": 100.0, "elapsed_seconds": 60.0},
        {"step": 4, "consumed_tokens": 400, "tokens_per_second": 200.0, "elapsed_seconds": 1.0},
        {"step": 5, "consumed_tokens": 500, "tokens_per_second": None},
        {"step": 6, "consumed_tokens": 600, "tokens_per_second": 200.0},
    ]
    assert training_seconds(records) == [2.0, 4.0, 4.5, 4.5, 5.5]


def test_cpu_seconds_add_up(made_up: Callable[..., MadeUp]) -> None:
    made = made_up([planned("base")], seeds=(1,))
    made.run("base-seed1", {5: 3.0, 10: 2.0}, cpu_seconds=1.5)
    (run,) = observe(made.folder, made.plan)
    assert [point.cpu_seconds for point in run.points] == [1.5, 3.0]
    assert run.numbers["training_cpu_seconds"] == 3.0
    assert run.numbers["tokens_per_cpu_second"] == run.points[-1].tokens / 3.0


@pytest.mark.parametrize(("accelerator", "numbers"), [("cuda", {"cpu_seconds": 1.5}), ("cpu", {})])
def test_cpu_seconds_are_unknown_on_a_gpu_and_where_they_were_not_recorded(
    made_up: Callable[..., MadeUp], accelerator: str, numbers: dict[str, float]
) -> None:
    made = made_up([planned("base")], seeds=(1,))
    made.run("base-seed1", {5: 3.0, 10: 2.0}, accelerator=accelerator, **numbers)
    (run,) = observe(made.folder, made.plan)
    assert [point.cpu_seconds for point in run.points] == [None, None]
    assert bits_at(run.points, "cpu_seconds", 1.0) is None
    assert not {"training_cpu_seconds", "tokens_per_cpu_second"} & set(run.numbers)


def test_a_run_is_read_with_medians_peaks_and_hosts(made_up: Callable[..., MadeUp]) -> None:
    made = made_up([planned("base")], seeds=(1,))
    made.run("base-seed1", {5: 3.0, 10: 2.0}, peak_memory_bytes=7.0, data_wait=0.1)
    (run,) = observe(made.folder, made.plan)
    assert run.done
    assert [point.flops for point in run.points] == [5e5, 1e6]
    assert run.numbers["peak_memory_bytes"] == 7.0
    assert run.numbers["step_seconds"] == 0.1
    assert run.numbers["training_seconds"] == 1.0
    assert "communication" not in run.numbers
    assert run.hosts == ("node1",)


def test_an_evaluation_that_is_no_number_is_no_point(made_up: Callable[..., MadeUp]) -> None:
    made = made_up([planned("base")], seeds=(1,))
    made.run("base-seed1", {5: 3.0, 10: float("nan")}, code=3)
    (run,) = observe(made.folder, made.plan)
    assert [point.step for point in run.points] == [5]
    assert run.bits is None
