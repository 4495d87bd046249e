"""Proposals: what hours and text allow, what fits, and that a proposal is not warned of."""

from dataclasses import replace

import pytest

from zhgpt.config.fits import batch_tokens_for, learning_rate_for
from zhgpt.plan.gpus import GPUS, Cluster, Gpu
from zhgpt.plan.memory import CUDA_CONTEXT_BYTES
from zhgpt.plan.predict import Text, Wishes
from zhgpt.plan.proposal_words import asking_for
from zhgpt.plan.propose import NothingToPropose, Proposal, propose
from zhgpt.plan.ways import MOST_BATCH_TOKENS
from zhgpt.plan.words import verdict, warnings_in


def proposal(
    hours: float, text_gb: float = 1000.0, gpu: str = "L20", count: int = 1, nodes: int = 1, link: str = "infiniband-200",
    tokens_per_parameter: float = 20,
) -> Proposal:  # fmt: skip
    text = Text(text_gb * 1e9 / 4.5, 32_000)
    cluster = Cluster(GPUS[gpu], nodes, count, link)
    return propose("planned", cluster, hours, text, Wishes(hours), tokens_per_parameter=tokens_per_parameter)


@pytest.mark.parametrize(("hours", "gpu", "count"), [(4, "L20", 1), (24, "4090", 1), (24, "H100", 8), (4, "V100", 2)])
def test_a_proposal_fits_its_hours_and_its_gpu_and_is_not_warned_of(hours: float, gpu: str, count: int) -> None:
    plan = proposal(hours, gpu=gpu, count=count).prediction
    assert plan.fits
    assert 0.5 * hours < plan.seconds / 3600 <= hours
    assert plan.tokens_per_parameter >= 18
    assert warnings_in(plan, "en") == []
    assert verdict(plan).kind == "sound"


def test_more_hours_buy_a_larger_model() -> None:
    sizes = [proposal(hours).prediction.count.total for hours in (1, 4, 24, 168)]
    assert sizes == sorted(set(sizes))


def test_little_text_limits_the_model_and_the_plan_says_how_much_would_be_used() -> None:
    little = proposal(4, text_gb=0.35)
    assert little.limited_by == "text"
    assert little.prediction.epochs == pytest.approx(4, rel=0.02)
    assert little.prediction.tokens_per_parameter >= 18
    assert little.useful_text_gb is not None
    assert little.useful_text_gb > 0.35


def test_without_bf16_units_fp16_is_proposed() -> None:
    assert proposal(4, gpu="V100").prediction.config.train.precision == "fp16"


def test_a_gpu_that_holds_nothing_is_refused() -> None:
    tiny = Gpu("tiny", 1e8, 1e12, 1e11, 1e10, 10)
    with pytest.raises(NothingToPropose, match="no model of the ladder fits a tiny, not even with a micro batch of 1"):
        propose("planned", Cluster(tiny), 4, Text(None, 32_000), Wishes(4))


def test_hours_and_text_without_a_step_are_refused() -> None:
    with pytest.raises(NothingToPropose, match=r"allow 889 tokens, less than one step of the smallest model \(100 seq"):
        proposal(4, text_gb=1e-6, count=100)


@pytest.mark.parametrize("hours", [1, 4, 24, 168])
def test_rate_and_batch_are_those_of_the_published_fit(hours: float) -> None:
    plan = proposal(hours).prediction
    tokens = plan.batch.total_tokens
    assert plan.config.optim.peak == learning_rate_for(plan.count.non_embedding, tokens)
    assert 2**-0.51 < plan.batch.tokens_per_step / batch_tokens_for(tokens) < 2**0.51


@pytest.mark.parametrize(
    ("gpu", "nodes", "count", "link", "hours", "text_gb"),
    [
        ("H100", 32, 8, "infiniband-200", 24, 100),
        ("L20", 8, 8, "ethernet-10", 4, 20),
        ("L20", 1, 1, "infiniband-200", 1, 0.01),
        ("L20", 1, 3, "infiniband-200", 4, 1000),
    ],
)
def test_a_batch_is_at_most_a_thousandth_of_all_tokens(
    gpu: str, nodes: int, count: int, link: str, hours: float, text_gb: float
) -> None:
    found = proposal(hours, text_gb, gpu, count, nodes, link)
    batch = found.prediction.batch
    assert batch.tokens_per_step <= min(MOST_BATCH_TOKENS, batch.total_tokens / 1000)
    assert batch.steps >= 1000
    assert found.fitted_batch_tokens is None
    assert found.prediction.seconds <= hours * 3600


def test_where_one_sequence_a_rank_is_more_than_the_fit_gives_the_proposal_knows() -> None:
    found = proposal(1, 1, "H100", count=8, nodes=64)
    batch = found.prediction.batch
    assert (batch.micro_batch_size, batch.gradient_accumulation_steps) == (1, 1)
    assert found.fitted_batch_tokens is not None
    assert 2**-0.51 < found.fitted_batch_tokens / batch_tokens_for(batch.total_tokens) < 2**0.51


def test_where_the_text_limits_a_larger_model_is_named_and_can_be_asked_for() -> None:
    found = proposal(4, text_gb=0.5)
    larger = found.larger
    assert larger is not None
    assert found.prediction.count.total < larger.count.total
    assert larger.batch.total_tokens == pytest.approx(found.prediction.batch.total_tokens, rel=0.01)
    assert found.prediction.seconds < larger.seconds <= 4 * 3600
    assert larger.expectation.bits_per_byte < found.prediction.expectation.bits_per_byte
    asked = proposal(4, text_gb=0.5, tokens_per_parameter=asking_for(larger))
    assert asked.prediction.config == larger.config


def test_where_the_hours_limit_no_larger_model_is_named() -> None:
    assert proposal(4).larger is None


def test_a_rank_on_the_cpu_reserves_nothing_for_cuda() -> None:
    small = Gpu("cpu", 0.9 * CUDA_CONTEXT_BYTES, 1e11, 1e10, 1e10, None)
    found = propose("planned", Cluster(small, 1, 24), 24, Text(None, 32_000), Wishes(24))
    assert found.prediction.fits
    with pytest.raises(NothingToPropose):
        propose("planned", Cluster(replace(small, name="gpu"), 1, 24), 24, Text(None, 32_000), Wishes(24))


def test_the_precision_that_a_device_was_measured_at_can_be_kept() -> None:
    cpu = Cluster(Gpu("cpu", 1e10, 1e11, 1e10, 1e10, None))
    found = propose("planned", cluster=cpu, hours=24, text=Text(None, 8192), wishes=Wishes(24), precision="fp32")
    assert found.prediction.config.train.precision == "fp32"
