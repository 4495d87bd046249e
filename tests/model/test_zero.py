"""The model in real DeepSpeed engines: ZeRO-3 partitions the tied table, and everything else, without a change."""

import pytest
from ranks import Ranks

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

MODELS = [("gpt2", True), ("qwen3", True), ("llama", False)]
STAGES = [(0, False), (3, False), (3, True)]


@pytest.fixture(scope="module", params=[1, 2])
def results(ranks: Ranks, request: pytest.FixtureRequest) -> list[dict]:
    """One launch for all cases: each rank's results, by model and (stage, activation checkpointing)."""
    keys = [(model, stage) for model in MODELS for stage in STAGES]
    cases = [
        {"model_type": model[0], "tied": model[1], "stage": stage[0], "checkpointing": stage[1]}
        for model, stage in keys
    ]
    outcomes = ranks.results("model_under_zero:train", cases, world_size=request.param, timeout=180.0)
    return [dict(zip(keys, outcome, strict=True)) for outcome in outcomes]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_zero_3_gives_the_losses_of_whole_weights(results, model: tuple[str, bool], stage: tuple[int, bool]) -> None:
    expected, found = results[0][model, STAGES[0]]["losses"], results[0][model, stage]["losses"]
    assert found == pytest.approx(expected, abs=1e-5)
    assert expected[0] != pytest.approx(expected[-1], abs=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_every_rank_writes_the_same_text_at_every_stage(results, model: tuple[str, bool]) -> None:
    texts = [by_case[model, stage]["text"] for by_case in results for stage in STAGES]
    assert all(text == texts[0] for text in texts)
    assert [len(tokens) for tokens in texts[0]] == [5, 5]
