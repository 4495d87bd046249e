"""Which source gives sample k: exact shares everywhere, no sample twice, none left out, the same however it is asked."""

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from megatron_style_data.blend_schedule import BlendSchedule, Phase
from megatron_style_data.errors import SettingError

WINDOW = 4096
WEIGHTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=40).map(
    lambda whole: tuple(Fraction(weight, 1000) for weight in whole)
)
QUICK = settings(max_examples=40, deadline=None)


def weights(*values: float) -> tuple[Fraction, ...]:
    return tuple(Fraction(str(value)) for value in values)


def one_phase(*values: float) -> BlendSchedule:
    return BlendSchedule((Phase(0, weights(*values)),))


def plain_sequence(schedule: BlendSchedule, samples: int) -> list[tuple[int, int]]:
    """(source, cursor) of samples 0, 1, 2 … one after the other, by pulling each from the root of a tree of pairs.

    Each pair keeps how many samples it has handed out and how many of them went left, and sends the next one left when
    the left count lags behind its rounded share.
    """
    given_out = [0] * schedule.sources
    sequence = []
    for phase, following in zip(schedule.phases, [*schedule.phases[1:], None], strict=True):
        root = plain_tree(phase.weights)
        end = samples if following is None else min(samples, following.first_sample)
        for _ in range(phase.first_sample, end):
            node = root
            while not isinstance(node, int):
                node["seen"] += 1
                left_until_here = (node["share"] * node["seen"] + Fraction(1, 2)) // 1
                goes_left = node["went_left"] < left_until_here
                node["went_left"] += goes_left
                node = node["left"] if goes_left else node["right"]
            sequence.append((node, given_out[node]))
            given_out[node] += 1
    return sequence


def plain_tree(all_weights: tuple[Fraction, ...]) -> Any:
    trees = [(weight, order, order) for order, weight in enumerate(all_weights) if weight > 0]
    trees = [(weight, number, source) for number, (weight, _, source) in enumerate(trees)]
    made = len(trees)
    while len(trees) > 1:
        trees.sort(key=lambda tree: tree[:2])
        (light, _, right), (heavy, _, left), *trees = trees
        pair = {"share": heavy / (heavy + light), "left": left, "right": right, "seen": 0, "went_left": 0}
        trees.append((heavy + light, made, pair))
        made += 1
    return trees[0][2]


def largest_deviation(sources: NDArray[np.int64], shares: tuple[Fraction, ...]) -> float:
    """How far a source's count in any stretch of `sources`, of any length, is from its share; in samples."""
    worst = 0.0
    for number, share in enumerate(shares):
        excess = np.concatenate([[0.0], np.cumsum((sources == number) - float(share))])
        worst = max(worst, excess.max() - excess.min())
    return worst


@QUICK
@given(first=WEIGHTS, second=st.randoms(use_true_random=False), start=st.integers(1, 400))
def test_the_closed_form_equals_a_plain_loop(first: tuple[Fraction, ...], second: random.Random, start: int) -> None:
    later = (*(Fraction(second.randint(0, 50)) for _ in first[:-1]), Fraction(1))
    schedule = BlendSchedule((Phase(0, first), Phase(start, later)))
    sources, cursors = schedule.locate(np.arange(start + 300))
    assert list(zip(sources.tolist(), cursors.tolist(), strict=True)) == plain_sequence(schedule, start + 300)


def test_six_to_three_to_one_is_spread_evenly() -> None:
    sources, cursors = one_phase(6, 3, 1).locate(np.arange(20))
    assert sources.tolist() == [0, 1, 0, 1, 0, 0, 2, 0, 1, 0] * 2
    assert cursors[:10].tolist() == [0, 0, 1, 1, 2, 3, 0, 4, 2, 5]


@QUICK
@given(given_weights=WEIGHTS, begin=st.sampled_from([0, 12_345, 10**12 + 7]))
def test_every_window_holds_each_source_to_a_thousandth(given_weights: tuple[Fraction, ...], begin: int) -> None:
    schedule = BlendSchedule((Phase(0, given_weights),))
    sources, _ = schedule.locate(begin + np.arange(3 * WINDOW))
    assert largest_deviation(sources, schedule.phases[0].shares) < 4 < WINDOW / 1000


def test_windows_are_exact_for_weights_that_make_the_tree_deep() -> None:
    fibonacci = [1.0, 1.0]
    while len(fibonacci) < 24:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for values in (fibonacci, [2.0**power for power in range(18)], [1e5] + [1.0] * 60):
        schedule = one_phase(*values)
        sources, _ = schedule.locate(np.arange(8 * WINDOW))
        assert largest_deviation(sources, schedule.phases[0].shares) < 4


@QUICK
@given(given_weights=WEIGHTS, at=st.integers(0, 10**13))
def test_vectorised_equals_one_by_one_and_the_counts(given_weights: tuple[Fraction, ...], at: int) -> None:
    schedule = BlendSchedule((Phase(0, given_weights),))
    wanted = at + np.array([5, 0, 3, 3, 1])
    sources, cursors = schedule.locate(wanted)
    for sample, source, cursor in zip(wanted.tolist(), sources.tolist(), cursors.tolist(), strict=True):
        (alone,), (alone_cursor,) = schedule.locate([sample])
        assert (source, cursor) == (alone, alone_cursor)
        before, after = schedule.counts_before(sample), schedule.counts_before(sample + 1)
        assert before[source] == cursor
        assert [new - old for old, new in zip(before, after, strict=True)] == [
            int(number == source) for number in range(schedule.sources)
        ]
        assert sum(before) == sample


def test_counts_do_not_drift_in_a_million_million_samples() -> None:
    schedule = one_phase(0.6, 0.3, 0.1)
    assert schedule.counts_before(10**12) == (6 * 10**11, 3 * 10**11, 10**11)
    odd = (Fraction(1, 3), Fraction(10**9 + 7, 10**10 + 19), Fraction(2, 7))
    counted = BlendSchedule((Phase(0, odd),)).counts_before(10**12)
    assert all(abs(count - 10**12 * weight / sum(odd)) < 4 for count, weight in zip(counted, odd, strict=True))


def test_cursors_go_on_through_phases_without_repeating_or_losing_a_sample() -> None:
    schedule = BlendSchedule(
        (
            Phase(0, weights(6, 3, 1)),
            Phase(1001, weights(0, 1, 1)),
            Phase(1500, weights(1, 0, 5)),
            Phase(1501, weights(1, 1, 1)),
        )
    )
    sources, cursors = schedule.locate(np.random.default_rng(1).permutation(3000))
    for number in range(3):
        assert sorted(cursors[sources == number].tolist()) == list(range(schedule.counts_before(3000)[number]))
    in_second, _ = schedule.locate(np.arange(1001, 1500))
    assert set(in_second.tolist()) == {1, 2}


def test_each_phase_keeps_its_own_shares() -> None:
    phases = (Phase(0, weights(6, 3, 1)), Phase(10_000, weights(1, 1, 8)))
    schedule = BlendSchedule(phases)
    for phase in phases:
        sources, _ = schedule.locate(phase.first_sample + np.arange(2 * WINDOW))
        assert largest_deviation(sources, phase.shares) < 4


def test_a_source_without_weight_changes_nothing() -> None:
    sources, cursors = one_phase(6, 3, 1).locate(np.arange(500))
    with_another, same_cursors = one_phase(6, 0, 3, 1).locate(np.arange(500))
    assert np.array([0, 2, 3])[sources].tolist() == with_another.tolist()
    assert cursors.tolist() == same_cursors.tolist()


def test_only_ratios_of_weights_count() -> None:
    assert (
        one_phase(0.6, 0.3, 0.1).locate(np.arange(99))[0].tolist()
        == one_phase(6, 3, 1).locate(np.arange(99))[0].tolist()
    )


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        ((), "a blend begins with a phase at sample 0"),
        ((Phase(5, weights(1)),), "a blend begins with a phase at sample 0"),
        (
            (Phase(0, weights(1)), Phase(9, weights(1)), Phase(9, weights(1))),
            "sample 9 does not come after .* sample 9",
        ),
        ((Phase(0, weights(0, 0)),), "needs a weight of at least 0 for each source and one above 0, found 0.0, 0.0"),
        ((Phase(0, weights(1, 1)), Phase(4, weights(1))), "at sample 4 needs a weight of at least 0 for each source"),
        ((Phase(0, weights(1, -1)),), "found 1.0, -1.0"),
        ((Phase(0, weights(1, 1e-9)),), "source number 2 has 1.0e-09 .* less than one sample in a hundred million"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(phases: tuple[Phase, ...], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        BlendSchedule(phases)


def test_a_negative_sample_is_a_bug_not_a_sample() -> None:
    with pytest.raises(IndexError, match="sample numbers start at 0, got -1"):
        one_phase(1).locate([-1])
