"""When the demo has succeeded."""

from dataclasses import replace

import pytest

from megatron_style_data.manifest import Floor
from zhgpt.demo.verdict import judge

FLOOR = Floor(
    unigram_loss=8.0,
    unigram_bits_per_byte=2.0,
    bigram_loss=6.0,
    bigram_bits_per_byte=1.4,
    measured_on="valid",
    measured_tokens=1000,
    bigram_tokens=10000,
)


def test_a_model_at_the_unigram_line_has_failed() -> None:
    verdict = judge(2.0, FLOOR)
    assert not verdict.passed
    assert "little more than which tokens are frequent" in verdict.sentence


@pytest.mark.parametrize(("bits", "passed"), [(1.51, False), (1.5, True)])
def test_the_gain_must_be_at_least_half_a_bit_a_byte(bits: float, passed: bool) -> None:
    assert judge(bits, FLOOR).passed is passed


def test_between_the_lines_it_says_that_token_pairs_are_not_beaten() -> None:
    verdict = judge(1.45, FLOOR)
    assert verdict.passed
    assert "but not yet the second" in verdict.sentence


def test_below_the_bigram_line_it_says_that_both_are_beaten() -> None:
    assert "beats both lines" in judge(1.3, FLOOR).sentence


def test_the_lines_are_those_of_the_dataset() -> None:
    assert judge(2.0, replace(FLOOR, unigram_bits_per_byte=2.5)).passed
