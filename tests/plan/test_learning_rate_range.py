"""What a range test says of its losses."""

import math
from pathlib import Path
from typing import Any

import pytest

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.loading import load_run_config
from zhgpt.config.schema import OptimSection
from zhgpt.config.usual_rates import RateJudgement
from zhgpt.errors import SettingError
from zhgpt.plan.learning_rate_range import (
    SAFETY,
    check_range,
    describe_range,
    draw_range,
    judge_suggestion,
    range_overrides,
    read_range,
)

ADAMW = OptimSection(learning_rate=1e-3)


def curve(steps: int = 100, best: float = 1e-2) -> list[dict[str, Any]]:
    """Losses that fall up to a rate and climb after it, from 1e-5 to 1."""
    rates = [10 ** (-5 + 5 * step / (steps - 1)) for step in range(steps)]
    return [{"learning_rate": rate, "loss": 4 + min(5.0, abs(math.log10(rate / best)) ** 1.5)} for rate in rates]


def test_the_suggestion_lies_below_the_rate_of_the_lowest_loss() -> None:
    result = read_range(curve())
    assert result.lowest == pytest.approx(1.7e-2, rel=0.5)  # the running mean lags behind
    assert result.suggestion == pytest.approx(result.lowest / SAFETY, rel=0.05)
    assert 1e-5 < result.steepest < result.lowest


def test_a_loss_that_ends_as_nan_ends_the_curve_and_says_where_it_diverged() -> None:
    records = curve()
    for record in records[90:]:
        record["loss"] = math.nan
    result = read_range(records)
    assert len(result.rates) == 90
    assert result.diverged == records[90]["learning_rate"]
    assert "it was back where it began" in describe_range(result)[0]


def test_the_lines_name_the_setting_and_what_auto_would_take() -> None:
    result = read_range(curve())
    lines = describe_range(result, usual=4e-3)
    assert lines[1].startswith(f"suggestion: optim.learning_rate={result.suggestion:g}")
    assert lines[2] == "auto would take 0.004 (docs/schedules.md)"
    still = read_range(curve(best=10.0))
    assert "the loss still fell at the last step" in describe_range(still)[0]


def judged(best: float, *overrides: str) -> RateJudgement:
    """The suggestion of a curve for a model of 124M parameters, which is warned of below 1.3e-4 and above 6.2e-3."""
    config = load_run_config("configs/qwen3_124m.yaml", overrides)
    return judge_suggestion(read_range(curve(best=best)), config, plan_batch(config, 1), 124_000_000, 85_000_000)


@pytest.mark.parametrize(
    ("best", "sentence"),
    [
        (1e-2, None),
        (
            1e-4,
            "warning: optim.learning_rate=4.6e-05 is below the 0.00013 to 0.0062 that pretraining takes at this size: ",
        ),
        (
            1e-1,
            "warning: optim.learning_rate=0.062 is above the 0.00013 to 0.0062 that pretraining takes at this size: ",
        ),
    ],
)
def test_a_suggestion_outside_the_usual_rates_of_the_size_is_warned_of(best: float, sentence: str | None) -> None:
    more = describe_range(read_range(curve(best=best)), 3e-3, judged(best))[3:]
    assert [line[: len(sentence or "")] for line in more] == ([sentence] if sentence else [])
    assert all("compare a few rates in short runs before a long one (zhgpt ablate configs/" in line for line in more)


def test_the_suggestion_is_judged_by_what_the_hidden_matrices_would_train_with() -> None:
    own = judged(1e-2, "optim.learning_rate=1e-3", "optim.muon_learning_rate=2e-2")
    assert own.setting == "optim.muon_learning_rate"
    assert own.rate == pytest.approx(20 * read_range(curve()).suggestion)
    assert own.is_high


def test_a_curve_that_says_nothing_is_refused() -> None:
    flat = [{"learning_rate": 1e-6 * (step + 1), "loss": 9.0} for step in range(50)]
    with pytest.raises(SettingError, match="the loss never fell by 2 % in the test"):
        read_range(flat)
    with pytest.raises(SettingError, match="only 10 of the test's steps had a finite loss"):
        read_range([*curve()[:10], {"learning_rate": 1.0, "loss": math.inf}])


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    draw_range(read_range(curve()), tmp_path / "lr.png")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("rates", "steps", "sentence"),
    [
        ((1e-3, 1e-3), 100, "must be above 0 and below --highest"),
        ((1e-5, 1.0), 19, "a range test needs at least 20"),
        ((1e-5, math.inf), 100, "--highest inf must be a finite number, as in 1e-5"),
        ((math.nan, 1.0), 100, "--lowest nan must be a finite number, as in 1e-5"),
    ],
)
def test_a_test_that_cannot_say_anything_is_refused(rates: tuple[float, float], steps: int, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        check_range(*rates, steps)


def test_the_overrides_make_a_range_test_of_a_run_with_ramp_and_phases(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "data: {blend: [{data: a, name: a}], sequence_length: 8, phases: [{from_step: 900, weights: {a: 1}}],\n"
        "  sequence_length_warmup: [{sequence_length: 4, until_step: 5}]}\n"
        "train: {steps: 1000, global_batch_tokens: 512, batch_ramp: [{global_batch_size: 8, until_step: 9}]}\n"
        "schedule: {warmup_tokens: 4000}\n"
    )
    config = load_run_config(tmp_path / "run.yaml", range_overrides(1e-5, 0.5, 100, 64, ADAMW))
    assert (config.schedule.name, config.schedule.minimum_ratio) == ("range_test", 1e-5 / 0.5)
    assert (config.optim.learning_rate, config.train.steps, config.train.global_batch_size) == (0.5, 100, 64)
    assert config.train.batch_ramp == config.data.sequence_length_warmup == config.data.phases == ()


def test_parameters_with_a_rate_of_their_own_keep_their_multiple_in_the_test() -> None:
    optim = OptimSection(name="muon", learning_rate=1e-3, muon_learning_rate=2e-2, vector_learning_rate=5e-4)
    own = [word for word in range_overrides(1e-5, 0.5, 100, 64, optim) if word.startswith("optim.")]
    assert own == ["optim.muon_learning_rate=10.0", "optim.vector_learning_rate=0.25", "optim.learning_rate=0.5"]


def test_the_spike_policy_stands_back_in_the_test() -> None:
    assert "health.on_spike=warn" in range_overrides(1e-5, 0.5, 100, 64, ADAMW)
