"""Held-out text of several sources: as one, and how many samples of each."""

import numpy as np
import pytest

from zhgpt.evaluate.validation import DocumentCosts, Validation, samples_of_each


def test_several_texts_count_target_for_target() -> None:
    whole = Validation.of_all([Validation(30.0, 10, 40.0), Validation(10.0, 30, 60.0)])
    assert (whole.loss, whole.targets, whole.utf8_bytes) == (1.0, 40, 100.0)


@pytest.mark.parametrize(
    ("sizes", "asked", "taken"),
    [([50], None, [50]), ([50], 8, [8]), ([50], 80, [50]), ([60, 30, 10], 20, [12, 6, 2]), ([990, 10], 8, [8, 1])],
)
def test_samples_are_shared_out_by_size(sizes: list[int], asked: int | None, taken: list[int]) -> None:
    assert samples_of_each(sizes, asked) == taken


def test_costs_are_summed_by_document_and_those_without_a_target_left_out() -> None:
    first = DocumentCosts.of_targets(np.array([3, 3, 5, 7]), np.array([1.0, 2.0, 4.0, 0.0]), np.array([1, 1, 1, 0]))
    both = DocumentCosts.of_all([first, DocumentCosts.of_targets(np.array([5]), np.array([0.5]), np.array([1]))])
    assert both.documents.tolist() == [3, 5]
    assert both.nats.tolist() == [3.0, 4.5]
    assert both.targets.tolist() == [2, 2]
