"""The learning-rate range test: a short real run whose rate rises exponentially, and what its losses say.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3: the loss falls while the
rate is useful and climbs when it is too high.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.schema import OptimSection, RunConfig
from zhgpt.config.usual_rates import RateJudgement, judge_rates
from zhgpt.errors import SettingError

MEMORY = 0.1
"""How far back the running mean of the losses looks, as a share of the test: it lags by as much, whatever the steps."""

SAFETY = 4.0
"""The suggestion lies this factor below the rate with the lowest loss. Measured: docs/schedules.md."""

FEWEST_STEPS = 20

SHARE_LEARNT = 0.02
"""A curve that falls by less than this share of its first loss says nothing."""


@dataclass(frozen=True)
class RangeResult:
    """What a range test found.

    Attributes:
        rates: of each step.
        losses: of each step, nats a token.
        smoothed: running mean of the losses, the first ones corrected for having no past.
        steepest: the rate at which the running mean falls fastest, over a twentieth of the test to each side.
        lowest: the rate at which it is lowest.
        diverged: the rate at which the running mean was back above where it began, or a loss was not finite; None: neither.
        suggestion: `lowest` / `SAFETY`, to two digits.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    lowest: float
    diverged: float | None
    suggestion: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready numbers."""
        return {
            "suggestion": self.suggestion,
            "lowest": self.lowest,
            "steepest": self.steepest,
            "diverged": self.diverged,
            "steps": [
                {"learning_rate": rate, "loss": loss, "smoothed": smooth}
                for rate, loss, smooth in zip(self.rates, self.losses, self.smoothed, strict=True)
            ],
        }


OWN_RATES = ("muon_learning_rate", "embedding_learning_rate", "head_learning_rate", "vector_learning_rate")


def check_range(lowest: float, highest: float, steps: int) -> None:
    """Refuse a test that cannot be made.

    Raises:
        SettingError: a rate is no finite number, the rates do not rise, or the steps are too few.
    """
    for option, rate in (("--lowest", lowest), ("--highest", highest)):
        if not math.isfinite(rate):
            raise SettingError(f"{option} {rate:g} must be a finite number, as in 1e-5")
    if not 0 < lowest < highest:
        raise SettingError(
            f"--lowest {lowest:g} must be above 0 and below --highest {highest:g}: the rate rises between them"
        )
    if steps < FEWEST_STEPS:
        raise SettingError(
            f"--steps {steps}: a range test needs at least {FEWEST_STEPS}, 100 and more say it more clearly"
        )


def range_overrides(
    lowest: float, highest: float, steps: int, global_batch_size: int, optim: OptimSection
) -> list[str]:
    """The settings that turn any run into a range test that `check_range` let through; last words on a command line.

    Args:
        lowest: the first step's rate.
        highest: the last step's.
        steps: of the test.
        global_batch_size: of the run, which must not follow from the test's few steps.
        optim: of the run, resolved: parameters with a rate of their own keep their multiple of optim.learning_rate.
    """
    return [
        *(f"optim.{name}={rate!r}" for name, rate in _own_rates(optim, highest).items()),
        "health.on_spike=warn",
        "schedule.name=range_test",
        "schedule.warmup_steps=0",
        "schedule.warmup_tokens=null",
        f"schedule.minimum_ratio={lowest / highest!r}",
        f"optim.learning_rate={highest!r}",
        f"train.steps={steps}",
        "train.global_batch_tokens=null",
        f"train.global_batch_size={global_batch_size}",
        "train.batch_ramp=[]",
        "train.branch_from=null",
        "data.sequence_length_warmup=[]",
        "data.phases=[]",
        "log.every_steps=1",
        "log.tensorboard=false",
        "log.swanlab=false",
        "log.wandb=false",
        f"evaluate.every_steps={steps}",
        "evaluate.samples=1",
        "evaluate.prompts=[]",
        f"checkpoint.every_steps={steps}",
    ]


def read_range(records: Sequence[Mapping[str, Any]]) -> RangeResult:
    """What the metrics of a range test say.

    Args:
        records: lines of metrics.jsonl in order, one a step; the last loss may be infinite or not a number.

    Raises:
        SettingError: too few steps, or the loss never fell.
    """
    pairs = [(float(record["learning_rate"]), float(record["loss"])) for record in records]
    finite = list(_until_not_finite(pairs))
    if len(finite) < FEWEST_STEPS:
        raise SettingError(
            f"only {len(finite)} of the test's steps had a finite loss; start lower (--lowest) or take more --steps"
        )
    rates, losses = tuple(rate for rate, _ in finite), tuple(loss for _, loss in finite)
    smoothed = _smoothed(losses)
    at = min(range(len(smoothed)), key=lambda step: smoothed[step])
    if smoothed[at] > smoothed[0] * (1 - SHARE_LEARNT):
        raise SettingError(
            f"the loss never fell by {100 * SHARE_LEARNT:g} % in the test ({losses[0]:.3f} first, {smoothed[at]:.3f} at best): "
            "raise --highest or take more --steps"
        )
    span = max(1, len(finite) // 20)
    slopes = {step: smoothed[step + span] - smoothed[step - span] for step in range(span, len(finite) - span)}
    steepest = min(slopes, key=lambda step: slopes[step])
    above = [rates[step] for step in range(at, len(finite)) if smoothed[step] > smoothed[0]]
    above += [rate for rate, _ in pairs[len(finite) :]]
    return RangeResult(
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        steepest=rates[steepest],
        lowest=rates[at],
        diverged=above[0] if above else None,
        suggestion=float(f"{rates[at] / SAFETY:.2g}"),
    )


def judge_suggestion(
    result: RangeResult, config: RunConfig, plan: BatchPlan, active: int, non_embedding: int
) -> RateJudgement:
    """The suggestion beside the rates that pretraining takes: what the hidden matrices would train with.

    Args:
        result: of the test.
        config: of the whole run, resolved; parameters with a rate of their own keep their multiple, as in the test.
        plan: its batch plan.
        active: parameters that a token passes.
        non_embedding: parameters without tables and an untied head.
    """
    rates = {"learning_rate": result.suggestion, **_own_rates(config.optim, result.suggestion)}
    suggested = config.model_copy(update={"optim": config.optim.model_copy(update=rates)})
    return judge_rates(suggested, plan, active, non_embedding)[0]


def describe_range(result: RangeResult, usual: float | None = None, judged: RateJudgement | None = None) -> list[str]:
    """What to tell the user, a line each.

    Args:
        result: of the test.
        usual: what `optim.learning_rate: auto` gives for the whole run, to compare.
        judged: the suggestion, from `judge_suggestion`; outside the usual rates it is warned of.
    """
    diverged = f"at {result.diverged:.2g} it was back where it began" if result.diverged else "nothing diverged"
    if result.lowest == result.rates[-1]:
        diverged = "the loss still fell at the last step: raise --highest for a limit"
    lines = [
        f"{len(result.rates)} steps from {result.rates[0]:.2g} to {result.rates[-1]:.2g}: the loss fell fastest at "
        f"{result.steepest:.2g} and was lowest at {result.lowest:.2g}; {diverged}",
        f"suggestion: optim.learning_rate={result.suggestion:g} (the rate of the lowest loss / {SAFETY:g})",
    ]
    if usual is not None:
        lines.append(f"auto would take {usual:g} (docs/schedules.md)")
    if judged is not None and (judged.is_low or judged.is_high):
        lines.append(
            f"warning: {judged.setting}={judged.rate:.2g} is {'below' if judged.is_low else 'above'} the {judged.low:.2g} to "
            f"{judged.high:.2g} that pretraining takes at this size: compare a few rates in short runs before a long one "
            "(zhgpt ablate configs/ablations/learning_rate.yaml)"
        )
    return lines


def draw_range(result: RangeResult, path: Path) -> None:
    """Writes the plot of loss against rate as PNG."""
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
        axes = figure.subplots()
        axes.plot(result.rates, result.losses, color="#9db8d9", linewidth=1, label="loss of each step")
        axes.plot(result.rates, result.smoothed, color="#2563a8", linewidth=2, label="running mean")
        for rate, colour, label in (
            (result.steepest, "#6b7280", "falls fastest"),
            (result.lowest, "#b3261e", "lowest"),
            (result.suggestion, "#2e7d4f", "suggestion"),
        ):
            axes.axvline(rate, color=colour, linestyle="--", linewidth=1, label=f"{label}: {rate:.2g}")
        axes.set_xscale("log")
        axes.set_ylim(min(result.smoothed) * 0.95, max(result.losses[0], result.smoothed[0]) * 1.05)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss (nats per token)")
        axes.legend(fontsize=8)
        figure.savefig(path)


def _own_rates(optim: OptimSection, rate: float) -> dict[str, float]:
    """Rates of their own that parameters have, at their multiple of this one."""
    own = {name: getattr(optim, name) for name in OWN_RATES}
    return {name: value / optim.peak * rate for name, value in own.items() if value is not None}


def _until_not_finite(pairs: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    for step, (_, loss) in enumerate(pairs):
        if not math.isfinite(loss):
            return pairs[:step]
    return pairs


def _smoothed(losses: Sequence[float]) -> tuple[float, ...]:
    means, mean, past = [], 0.0, 1 - 1 / (MEMORY * len(losses))
    for step, loss in enumerate(losses):
        mean = past * mean + (1 - past) * loss
        means.append(mean / (1 - past ** (step + 1)))
    return tuple(means)
