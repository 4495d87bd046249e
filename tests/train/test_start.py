"""What a start says and refuses; whole branches are in tests/train/test_schedule_runs.py."""

import pytest
import torch

from zhgpt.errors import BadDataError
from zhgpt.train.start import compare_logits


def test_the_logits_of_a_loaded_branch_are_those_saved_with_its_checkpoint() -> None:
    saved = torch.tensor([[[4.0, -8.0]]])
    assert compare_logits(saved, saved.clone(), "fp32", "step-1") == 0
    assert compare_logits(saved, saved + 0.25, "bf16", "step-1") == 0.25
    with pytest.raises(BadDataError, match=r"step-1: the loaded model's logits differ by 0\.25 from those saved"):
        compare_logits(saved, saved + 0.25, "fp32", "step-1")
    with pytest.raises(BadDataError, match="differ by nan"):
        compare_logits(saved, saved * float("nan"), "bf16", "step-1")
