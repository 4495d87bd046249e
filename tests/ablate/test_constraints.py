"""The arithmetic of each constraint."""

from collections.abc import Callable
from pathlib import Path

import pytest

from zhgpt.ablate.constraints import Cost, largest_that_fits, micro_batches, steps_under
from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.loading import load_grid
from zhgpt.ablate.planning import make_plan
from zhgpt.errors import SettingError

COSTS = {
    "base": Cost(steps=100, tokens_per_step=1000, flops_per_token=50, step_seconds=0.2),
    "wide": Cost(steps=7, tokens_per_step=1000, flops_per_token=200, step_seconds=0.5),
    "batch": Cost(steps=7, tokens_per_step=3000, flops_per_token=50, step_seconds=0.4),
}


@pytest.mark.parametrize(
    ("constraint", "steps"),
    [
        (None, {"base": 100, "wide": 7, "batch": 7}),
        ("equal_tokens", {"base": 100, "wide": 100, "batch": 33}),
        ("equal_active_flops", {"base": 100, "wide": 25, "batch": 33}),
        ("equal_wall_clock", {"base": 100, "wide": 40, "batch": 50}),
    ],
)
def test_steps_are_the_nearest_to_what_the_baseline_spends(constraint: str | None, steps: dict[str, int]) -> None:
    assert steps_under(constraint, COSTS, "base") == steps  # type: ignore[arg-type]


def test_a_wall_clock_of_its_own_replaces_the_baselines() -> None:
    assert steps_under("equal_wall_clock", COSTS, "base", 10.0) == {"base": 50, "wide": 20, "batch": 25}


def test_a_variant_whose_step_was_not_measured_has_no_wall_clock_length() -> None:
    costs = {**COSTS, "broken": Cost(100, 1000, 50, None)}
    assert steps_under("equal_wall_clock", costs, "base").keys() == COSTS.keys()


def test_a_baseline_whose_step_was_not_measured_is_refused() -> None:
    with pytest.raises(SettingError, match="equal_wall_clock needs the step time of the baseline base"):
        steps_under("equal_wall_clock", {"base": Cost(100, 1000, 50, None)}, "base")


def test_a_step_larger_than_the_whole_is_refused() -> None:
    costs = {"base": Cost(1, 1000, 50), "huge": Cost(1, 4000, 50)}
    with pytest.raises(
        SettingError, match="a single step of variant huge takes 4e\\+03 tokens, more than the whole 1e\\+03"
    ):
        steps_under("equal_tokens", costs, "base")


def test_micro_batches_divide_what_a_rank_has() -> None:
    assert micro_batches(24, 2) == [1, 2, 3, 4, 6, 12]
    with pytest.raises(SettingError, match="a global batch of 5 sequences does not divide among 2 ranks"):
        micro_batches(5, 2)


def test_the_largest_micro_batch_is_found_by_trying_upwards() -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= 4

    assert largest_that_fits([1, 2, 3, 4, 6, 12], fits) == 4
    assert tried == [1, 2, 3, 4, 6]
    assert largest_that_fits([1, 2], lambda _: False) is None


def test_a_ramp_is_refused_where_a_constraint_would_decide_the_steps(
    make_grid: Callable[..., Path], tmp_path: Path
) -> None:
    ramp = {"train.batch_ramp": [{"global_batch_size": 4, "until_step": 2}]}
    grid = load_grid(make_grid(variants={"a": {}, "grown": ramp}, constraints=["equal_tokens"]), [])
    with pytest.raises(
        SettingError, match=r"variant grown has train\.batch_ramp, so its steps differ in size and equal_tokens"
    ):
        make_plan(grid, AblationFolder(tmp_path / "out"), None)


def test_the_tokens_of_a_ramp_are_those_of_its_steps(make_grid: Callable[..., Path], tmp_path: Path) -> None:
    ramp = {"train.batch_ramp": [{"global_batch_size": 4, "until_step": 2}]}
    grid = load_grid(make_grid(variants={"a": {}, "grown": ramp}, constraints=[]), [])
    whole, grown = make_plan(grid, AblationFolder(tmp_path / "out"), None).variants
    sequence = whole.tokens_per_step // 8
    assert (whole.tokens, grown.tokens) == (whole.steps * 8 * sequence, (2 * 4 + (grown.steps - 2) * 8) * sequence)
    assert grown.flops == grown.tokens * grown.flops_per_token
