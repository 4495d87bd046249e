"""A proposal as a recipe: names that YAML would misread, and comments that say where the numbers are from."""

import pytest

from zhgpt.config.yaml_text import parse_yaml
from zhgpt.plan.document import recipe_text, yaml_scalar
from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.predict import Text, Wishes
from zhgpt.plan.propose import Proposal, propose


def proposal(hours: float, nodes: int = 1, count: int = 1, text_gb: float = 1000.0) -> Proposal:
    text = Text(text_gb * 1e9 / 4.5, 32_000)
    return propose("planned", Cluster(GPUS["H100"], nodes, count), hours, text, Wishes(hours))


@pytest.mark.parametrize(
    "name", ["12", "null", "true", "1e3", "x #1", "~", "- a", "'a", "中文", "a: b", "@x", "{a", ""]
)
def test_any_name_is_read_back_as_it_is(name: str) -> None:
    assert parse_yaml(f"name: {yaml_scalar(name)}", "test").value == {"name": name}


def test_a_plain_name_stays_plain() -> None:
    assert yaml_scalar("l20_4h") == "l20_4h"
    assert yaml_scalar("data/中文") == "data/中文"


def test_the_comments_name_the_fit_and_say_where_it_is_extrapolated() -> None:
    short, long = recipe_text(proposal(0.1), "x"), recipe_text(proposal(4), "x")
    for text in (short, long):
        assert "Step Law, Li et al. 2025, arXiv 2503.04715" in text
        assert "by the same fit" in text
        assert "model.mup_base_width" in text
    assert "Extrapolated: the fit was made on about 60M to 1B" in short
    assert "Extrapolated" not in long


def test_a_rate_at_our_bound_is_said_to_be() -> None:
    assert "at a bound of ours: the fit gives more" in recipe_text(proposal(4, text_gb=0.1), "x")
    assert "at a bound" not in recipe_text(proposal(4), "x")


def test_a_batch_of_one_sequence_a_rank_is_said_in_the_comments() -> None:
    found = proposal(1, nodes=64, count=8, text_gb=1)
    assert f"one a rank; the same fit gives {found.fitted_batch_tokens:,} tokens" in recipe_text(found, "x")
