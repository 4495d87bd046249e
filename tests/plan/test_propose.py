"""Proposals: what hours and text allow, what fits, and that a proposal is not warned of."""

import json
from pathlib import Path

import pytest

from zhgpt.errors import SettingError
from zhgpt.plan.gpus import GPUS, Cluster, Gpu
from zhgpt.plan.predict import Text, Wishes
from zhgpt.plan.propose import Proposal, batch_sequences, propose, shipped_zero_json
from zhgpt.plan.words import verdict, warnings_in

ROOT = Path(__file__).parents[2]


def proposal(hours: float, text_gb: float = 1000.0, gpu: str = "L20", count: int = 1) -> Proposal:
    text = Text(text_gb * 1e9 / 4.5, 32_000)
    return propose("planned", Cluster(GPUS[gpu], 1, count), hours, text, Wishes(hours))


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
    with pytest.raises(SettingError, match="no model of the ladder fits a tiny, not even with a micro batch of 1"):
        propose("planned", Cluster(tiny), 4, Text(None, 32_000), Wishes(4))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_json_that_is_counted_with_is_the_one_in_the_folder(stage: int) -> None:
    assert shipped_zero_json(stage) == json.loads((ROOT / "ds_configs" / f"zero{stage}.json").read_text())


def test_the_batch_grows_with_compute_and_is_a_power_of_two_of_its_unit() -> None:
    sizes = [batch_sequences(10.0**power, 1e12, 8, 1024) for power in (16, 18, 20)]
    assert sizes == sorted(set(sizes))
    assert all((size // 8).bit_count() == 1 for size in sizes)
