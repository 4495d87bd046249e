"""Usual learning rates by size, and which of a run's own are far from them."""

import pytest

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.loading import load_run_config
from zhgpt.config.usual_rates import GPT3_LEARNING_RATES, RateJudgement, judge_rates, usual_learning_rate


def judged(*overrides: str, active: int = 125_000_000) -> list[RateJudgement]:
    config = load_run_config("configs/qwen3_124m.yaml", overrides)
    return judge_rates(config, plan_batch(config, 1), active, active - 25_000_000)


def test_usual_learning_rates_are_gpt3s_at_its_sizes() -> None:
    assert [usual_learning_rate(int(size)) for size, _ in GPT3_LEARNING_RATES] == pytest.approx(
        [rate for _, rate in GPT3_LEARNING_RATES]
    )


def test_usual_learning_rates_fall_with_size() -> None:
    sizes = [10**6, 10**7, 10**8, 2 * 10**8, 10**9, 10**10, 10**11, 10**12]
    rates = [usual_learning_rate(size) for size in sizes]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1.31e-3, rel=0.01)
    assert rates[-1] == 0.6e-4


def test_one_rate_for_all_is_judged_once() -> None:
    [one] = judged("optim.learning_rate=6e-4")
    assert (one.setting, one.role, one.rate) == ("optim.learning_rate", "hidden", 6e-4)
    assert not one.is_low
    assert not one.is_high


def test_the_hidden_matrices_come_first_whatever_setting_their_rate_has() -> None:
    words = ("optim.muon_learning_rate=1e-6", "optim.embedding_learning_rate=0.3")
    assert len(judged(*words)) == 2  # the head is tied
    own = judged(*words, "model.tie_word_embeddings=false")
    assert [(one.setting, one.role) for one in own] == [
        ("optim.muon_learning_rate", "hidden"),
        ("optim.embedding_learning_rate", "embedding"),
        ("optim.learning_rate", "head"),
    ]
    assert own[0].is_far_too_low
    assert not own[1].is_high


def test_far_is_farther_than_what_is_warned_of() -> None:
    rates = ("1e-5", "1e-4", "6e-4", "8e-3", "1.0")
    found = [judged(f"optim.learning_rate={rate}")[0] for rate in rates]
    assert [one.is_low for one in found] == [True, True, False, False, False]
    assert [one.is_far_too_low for one in found] == [True, False, False, False, False]
    assert [one.is_high for one in found] == [False, False, False, True, True]
    assert [one.is_far_too_high for one in found] == [False, False, False, False, True]


def test_under_mup_the_size_is_that_of_the_base_width() -> None:
    [one] = judged("model.mup_base_width=384")
    assert one.size == 125_000_000 // 4
    assert one.usual == pytest.approx(usual_learning_rate(125_000_000 // 4))
