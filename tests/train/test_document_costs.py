"""The file of what each held-out document costs."""

from pathlib import Path

import numpy as np

from zhgpt.evaluate.validation import DocumentCosts
from zhgpt.train.document_costs import read_document_costs, write_document_costs

COSTS = {("web", "valid"): DocumentCosts(np.array([4, 9]), np.array([1.5, 0.1]), np.array([3, 1]))}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_document_costs(tmp_path / "costs.jsonl", COSTS, 12.5)
    found = read_document_costs(tmp_path / "costs.jsonl")
    assert found is not None
    assert found.utf8_bytes == 12.5
    assert found.documents == {("web", "valid", 4): (1.5, 3), ("web", "valid", 9): (0.1, 1)}


def test_a_file_that_is_missing_or_cut_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    assert read_document_costs(path) is None
    write_document_costs(path, COSTS, 12.5)
    path.write_bytes(path.read_bytes()[:-10])
    assert read_document_costs(path) is None
