"""How a model is trained within a budget: batch by the published fit, ZeRO JSONs as they ship, hours and text kept."""

import json
import math
from pathlib import Path

import pytest

from zhgpt.config.fits import batch_tokens_for
from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.ladder import LADDER, model_section
from zhgpt.plan.ways import MOST_BATCH_TOKENS, Budget, batch_sequences, best_way, shipped_zero_json

ROOT = Path(__file__).parents[2]
SHAPE = LADDER[7]
MODEL = model_section(SHAPE, 32_000)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_json_that_is_counted_with_is_the_one_in_the_folder(stage: int) -> None:
    assert shipped_zero_json(stage) == json.loads((ROOT / "ds_configs" / f"zero{stage}.json").read_text())


def test_the_batch_is_the_power_of_two_nearest_to_the_fit() -> None:
    for tokens in (1e8, 1e9, 1e10):
        size = batch_sequences(tokens, 1024)
        assert size.bit_count() == 1
        assert 2**-0.5 <= size * 1024 / batch_tokens_for(tokens) <= 2**0.5


def test_the_batch_has_bounds_where_the_fit_has_none() -> None:
    assert batch_sequences(1e13, 2048) * 2048 == MOST_BATCH_TOKENS
    assert batch_sequences(3e6, 512) * 512 <= 3e6 / 1000
    assert batch_sequences(1000, 512) == 1


def test_a_way_keeps_hours_and_text() -> None:
    hours = best_way(MODEL, SHAPE.sequence_length, Cluster(GPUS["L20"]), "bf16", Budget(3600, math.inf))
    text = best_way(MODEL, SHAPE.sequence_length, Cluster(GPUS["L20"]), "bf16", Budget(3600, 1e7))
    assert hours is not None
    assert text is not None
    assert not hours.is_text_limited
    assert 0.99 * 3600 < hours.tokens / hours.tokens_per_second <= 3600
    assert text.is_text_limited
    assert 0.99e7 < text.tokens <= 1e7


def test_a_micro_batch_is_no_larger_than_the_batch_allows_on_all_ranks() -> None:
    way = best_way(MODEL, SHAPE.sequence_length, Cluster(GPUS["L20"], 4, 8), "bf16", Budget(3600, 1e9))
    assert way is not None
    assert way.micro_batch_size * 32 <= way.global_batch_size == way.wanted_batch_size
