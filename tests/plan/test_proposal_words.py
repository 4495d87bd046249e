"""What is said of a proposal beside its numbers."""

import re

from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.predict import Text, Wishes
from zhgpt.plan.proposal_words import notes_on
from zhgpt.plan.propose import Proposal, propose


def proposal(hours: float, text_gb: float, gpu: str = "L20", nodes: int = 1, count: int = 1) -> Proposal:
    return propose("x", Cluster(GPUS[gpu], nodes, count), hours, Text(text_gb * 1e9 / 4.5, 32_000), Wishes(hours))


def test_a_plain_proposal_needs_no_note() -> None:
    assert notes_on(proposal(4, 1000)) == []


def test_a_batch_that_the_ranks_make_large_is_said_to_be() -> None:
    found = proposal(1, 1, "H100", 64, 8)
    (said,) = [note for note in notes_on(found) if note.kind == "large_batch"]
    assert "because each of 512 ranks takes a sequence of 1,024 at least" in said.en
    assert f"gives about {found.fitted_batch_tokens:,}" in said.en
    assert "512 个 rank" in said.zh


def test_a_larger_model_is_said_with_its_time_its_price_in_tokens_and_the_option() -> None:
    (said,) = notes_on(proposal(4, 0.5))
    assert said.kind == "larger"
    assert re.search(r"[\d.]+M parameters on the same tokens \([\d.]+ a parameter\) in \d+ min", said.en)
    assert "every start would call it undertrained. --tokens-per-parameter " in said.en
    assert "--tokens-per-parameter" in said.zh


def test_a_larger_model_that_no_start_warns_of_is_not_called_undertrained() -> None:
    (said,) = [note for note in notes_on(proposal(1, 1, "H100", 64, 8)) if note.kind == "larger"]
    assert "(19 a parameter)" in said.en
    assert "undertrained" not in said.en
    assert "不足" not in said.zh
