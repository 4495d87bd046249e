"""Comparisons: what is paired, where it is read, what is decided, and the sentence that says so."""

from collections.abc import Callable
from math import exp, log, sqrt

import pytest
from made_up_ablation import MadeUp, planned

from zhgpt.ablate.comparison import Comparison, compare, judge
from zhgpt.ablate.observed import observe
from zhgpt.ablate.student import Interval

Make = Callable[..., MadeUp]


def comparisons(made: MadeUp) -> list[Comparison]:
    return compare(made.plan, observe(made.folder, made.plan))


def three_pairs(make: Make, *, differences: tuple[float, ...], rate: float = 1000.0) -> Comparison:
    """A baseline that falls from 3 to 2 bits per byte, and a variant that ends with these differences to it."""
    made = make([planned("base"), planned("moe")])
    for seed, difference in zip((1, 2, 3), differences, strict=True):
        level = 0.1 * seed
        made.run(f"base-seed{seed}", {5: 3 + level, 10: 2 + level})
        made.run(f"moe-seed{seed}", {5: 3 + level + difference, 10: 2 + level + difference}, rate=rate)
    return comparisons(made)[0]


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        (Interval(3, -0.031, 0.006), "better"),
        (Interval(3, 0.012, 0.005), "worse"),
        (Interval(3, 0.012, 0.0121), "not decided"),
        (Interval(3, 0.0002, 0.0007), "same"),
        (Interval(3, 0.0005, 0.0004), "same"),
        (Interval(3, 0.0005, 0.0006), "not decided"),
        (Interval(2, -0.5, 0.0001), "not decided"),
        (Interval(2, 0.0, 0.0), "not decided"),
        (Interval(1, -0.5, None), "not decided"),
    ],
)
def test_an_interval_is_judged(interval: Interval, outcome: str) -> None:
    assert judge(interval, indifference=0.001) == outcome


def test_differences_are_paired_by_seed(made_up: Make) -> None:
    """Seeds differ by 0.1, pairs hardly: unpaired, nothing would be decided."""
    comparison = three_pairs(made_up, differences=(-0.030, -0.031, -0.032))
    interval = comparison.differences["tokens"].interval
    assert interval.mean == pytest.approx(-0.031)
    assert interval.half_width == pytest.approx(4.30265 * 0.001 / sqrt(3), abs=1e-6)
    assert comparison.differences["tokens"].outcome == "better"


def test_better_at_equal_tokens_and_worse_at_equal_wall_clock_does_not_pay(made_up: Make) -> None:
    """The slow variant is read at 1.0 s, where it is at step 8 of 10: at 3 - 0.6 + level - 0.03."""
    comparison = three_pairs(made_up, differences=(-0.030, -0.031, -0.032), rate=800.0)
    assert comparison.differences["seconds"].interval.mean == pytest.approx(0.4 - 0.031)
    assert comparison.differences["seconds"].read_early == ("variant",)
    assert comparison.sentence.startswith(
        "moe is 0.031 ± 0.002 bits per byte better at equal tokens, 0.369 ± 0.002 worse at equal wall-clock: "
        "on this machine it does not pay."
    )


def test_the_held_out_documents_are_in_the_interval_where_their_costs_are_known(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")])
    for seed, difference in zip((1, 2, 3), (-0.030, -0.031, -0.032), strict=True):
        for name, shift in (("base", 0.0), ("moe", difference)):
            made.run(f"{name}-seed{seed}", {5: 3.0 + shift, 10: 2.0 + shift})
            spread = [0.0 if name == "base" else (-1) ** number * 0.5 for number in range(40)]
            made.document_costs(f"{name}-seed{seed}", [10.0 + value for value in spread], utf8_bytes=400.0)
    (comparison,) = comparisons(made)
    over_documents = 2.02269 * 0.5 * sqrt(40) * sqrt(40 / 39) / log(2) / 400
    difference = comparison.differences["tokens"]
    assert difference.over_documents == pytest.approx(over_documents, rel=1e-5)
    assert difference.interval.half_width == pytest.approx(
        sqrt((4.30265 * 0.001) ** 2 / 3 + over_documents**2), rel=1e-5
    )


def test_cpu_seconds_decide_where_the_grid_says_so(made_up: Make) -> None:
    """Twice the wall-clock, because the machine was busy; the CPU seconds are the same."""
    made = made_up([planned("base"), planned("moe")], time="cpu_seconds")
    for seed, difference in zip((1, 2, 3), (-0.030, -0.031, -0.032), strict=True):
        made.run(f"base-seed{seed}", {5: 3.0, 10: 2.0}, cpu_seconds=1.0)
        made.run(f"moe-seed{seed}", {5: 3 + difference, 10: 2 + difference}, cpu_seconds=1.0, rate=500.0)
    (comparison,) = comparisons(made)
    assert comparison.differences["seconds"].outcome == "worse"
    assert comparison.sentence.startswith(
        "moe is 0.031 ± 0.002 bits per byte better at equal tokens, 0.031 ± 0.002 better at equal CPU-seconds: "
        "on this machine it pays. It has 1.00 × the tokens a CPU-second (1.00 to 1.00)"
    )


def test_better_at_both_pays(made_up: Make) -> None:
    comparison = three_pairs(made_up, differences=(-0.030, -0.031, -0.032))
    assert "0.031 ± 0.002 better at equal wall-clock: on this machine it pays." in comparison.sentence


def test_worse_at_both_does_not_pay(made_up: Make) -> None:
    comparison = three_pairs(made_up, differences=(0.030, 0.031, 0.032))
    assert comparison.sentence.startswith("moe is 0.031 ± 0.002 bits per byte worse at equal tokens")
    assert "on this machine it does not pay" in comparison.sentence


def test_an_interval_that_holds_zero_is_not_decided(made_up: Make) -> None:
    comparison = three_pairs(made_up, differences=(-0.030, 0.031, -0.002))
    assert comparison.sentence.startswith("moe is not decided at equal tokens (0.000 ± 0.076 bits per byte)")
    assert "on this machine it is not decided whether it pays" in comparison.sentence
    assert "better" not in comparison.sentence
    assert "worse" not in comparison.sentence


def test_differences_too_small_to_matter_are_the_same(made_up: Make) -> None:
    comparison = three_pairs(made_up, differences=(1e-6, -1e-6, 2e-6))
    assert comparison.sentence.startswith(
        "moe is the same within 0.001 at equal tokens (0.0000 ± 0.0000 bits per byte)"
    )
    assert "it makes no difference to the loss" in comparison.sentence


def test_fewer_than_three_seeds_are_never_better_or_worse(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")], seeds=(1, 2))
    for seed in (1, 2):
        made.run(f"base-seed{seed}", {10: 2.0})
        made.run(f"moe-seed{seed}", {10: 1.0})
    (comparison,) = comparisons(made)
    assert comparison.sentence.startswith(
        "moe against base: not decided, 2 seeds where at least 3 are needed (mean difference at equal tokens -1.0000 bits"
    )
    assert "better" not in comparison.sentence
    assert "worse" not in comparison.sentence


def test_a_run_that_failed_leaves_its_pair_out_and_is_named(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")])
    for seed in (1, 2, 3):
        made.run(f"base-seed{seed}", {10: 2.0})
    made.run("moe-seed1", {10: 1.9})
    made.run("moe-seed2", {5: 3.0}, code=3, reason="step 6: loss nan")
    made.run("moe-seed3", {5: 3.0}, code=76)
    (comparison,) = comparisons(made)
    assert comparison.seeds == (1,)
    assert comparison.failures == ("seed 2 diverged", "seed 3 out of memory")
    assert "Left out: seed 2 diverged, seed 3 out of memory." in comparison.sentence


def test_a_variant_without_a_finished_run_cannot_be_compared(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe", problem="too large", problem_code=76)], seeds=(1,))
    made.run("base-seed1", {10: 2.0})
    assert comparisons(made)[0].sentence == "moe cannot be compared with base: seed 1 out of memory."


def test_a_baseline_without_a_finished_run_is_named(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")], seeds=(1,))
    made.run("moe-seed1", {10: 2.0})
    assert comparisons(made)[0].sentence == "moe cannot be compared with base: the baseline has no finished run."


def test_a_wall_clock_before_the_first_evaluation_is_not_compared(made_up: Make) -> None:
    comparison = three_pairs(made_up, differences=(0.0, 0.0, 0.0), rate=400.0)
    assert "seconds" not in comparison.differences
    assert "not compared at equal wall-clock, where the slower one had not been evaluated yet." in comparison.sentence


def test_speed_is_a_ratio_with_the_interval_of_its_logarithm(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")])
    ratios = (1.1, 1.2, 1.3)
    for seed, ratio in zip((1, 2, 3), ratios, strict=True):
        made.run(f"base-seed{seed}", {10: 2.0}, peak_memory_bytes=2e9)
        made.run(f"moe-seed{seed}", {10: 2.0}, rate=1000.0 * ratio, peak_memory_bytes=1e9)
    (comparison,) = comparisons(made)
    logarithms = [log(ratio) for ratio in ratios]
    mean = sum(logarithms) / 3
    spread = sqrt(sum((value - mean) ** 2 for value in logarithms) / 2)
    assert comparison.speed is not None
    assert comparison.speed[0] == pytest.approx(exp(mean))
    assert comparison.speed[1] == pytest.approx(exp(mean - 4.30265 * spread / sqrt(3)), abs=1e-4)
    assert comparison.memory == 0.5
    assert comparison.sentence.endswith(
        "1.20 × the tokens a second (0.97 to 1.47) and 0.50 × the peak memory of a rank. It is as good as base at its end after "
        "1.00 × its tokens (1.00 to 1.00) and 0.84 × its training time (0.68 to 1.03)."
    )
