"""A run for some GPUs, some hours and some text: the largest model that they can feed, and how to train it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from zhgpt.config.advice import TOKENS_PER_PARAMETER, USEFUL_EPOCHS
from zhgpt.errors import SettingError
from zhgpt.model.shape import count_parameters
from zhgpt.plan.gpus import Cluster
from zhgpt.plan.ladder import LADDER, Shape, model_section, run_config
from zhgpt.plan.predict import USED_SHARE, Prediction, Text, Wishes, predict
from zhgpt.plan.scaling_curve import BYTES_PER_TOKEN, with_little_text
from zhgpt.plan.ways import Budget, Way, best_way, shipped_zero_json

WORTH_A_RUNG = 0.005
"""By which share of its bits per byte a larger model on the same text must be better to be named (a choice)."""


class NothingToPropose(SettingError):
    """No model of the ladder can be trained there (exit code 2)."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A recipe, its DeepSpeed JSON, what it is predicted to take, and what limits it.

    Attributes:
        prediction: with the recipe in it.
        stage: of the JSON in ds_configs.
        limited_by: "hours", "text" or "ladder" (no larger model is proposed).
        useful_text_gb: text that the hours could use, in GB, where the text limits.
        fitted_batch_tokens: tokens of a step that the published fit gives, where the ranks make it more: each takes one
            sequence at least; None: they do not.
        larger: where the text limits, a larger model that reads as much of it within the hours, with fewer tokens a
            parameter, as far as it is worth it by the scaling curve; None: there is none.
    """

    prediction: Prediction
    stage: int
    limited_by: str
    useful_text_gb: float | None
    fitted_batch_tokens: int | None = None
    larger: Prediction | None = None


@dataclass(frozen=True, slots=True)
class _Rung:
    """A shape of the ladder with the best way to train it; ``parameters`` are those that a token passes."""

    shape: Shape
    way: Way
    parameters: int

    @property
    def tokens_per_parameter(self) -> float:
        return self.way.tokens / self.parameters


def propose(
    name: str,
    cluster: Cluster,
    hours: float,
    text: Text,
    wishes: Wishes,
    data: str = "data/zh",
    *,
    precision: str | None = None,
    tokens_per_parameter: float = TOKENS_PER_PARAMETER,
) -> Proposal:
    """Choose model, length, batch, rate, ZeRO stage and micro batch.

    The largest model that gets 20 tokens a parameter (Hoffmann et al. 2022) within the hours, from text that is read at most
    four times (Muennighoff et al. 2023). Learning rate and batch are what `zhgpt.config.fits` gives (Li et al. 2025).

    Args:
        name: of the run.
        cluster, hours, text, data: what it runs on, that may be spent, what it reads, and the dataset's prefix.
        wishes: hours and price as the user states them.
        precision: of the arithmetic; None: what the device is best at.
        tokens_per_parameter: fewest that a larger model must get.

    Raises:
        NothingToPropose: nothing on the ladder fits the device, or hours and text allow not one step.
    """
    precision = precision or precision_for(cluster)
    budget = Budget(hours * 3600 * USED_SHARE, math.inf if text.tokens is None else USEFUL_EPOCHS * text.tokens)
    rungs = _rungs(cluster, text, precision, budget)
    if not rungs:
        raise NothingToPropose(f"no model of the ladder fits a {cluster.gpu.name}, not even with a micro batch of 1")
    chosen = _largest_fed(rungs, tokens_per_parameter)
    _check_steps(chosen.way, cluster, budget)

    def predicted(rung: _Rung) -> Prediction:
        way = rung.way
        sizes = (way.steps, way.global_batch_size, way.micro_batch_size)
        config = run_config(name, data, rung.shape, *sizes, precision)
        return predict(config, shipped_zero_json(way.stage), cluster, text, wishes)

    prediction, way = predicted(chosen), chosen.way
    larger = _larger(chosen, rungs, text) if chosen.tokens_per_parameter >= tokens_per_parameter else None
    return Proposal(
        prediction=prediction,
        stage=way.stage,
        limited_by="text" if way.is_text_limited else "ladder" if chosen.shape is LADDER[-1] else "hours",
        useful_text_gb=_useful_text_gb(budget, prediction) if way.is_text_limited else None,
        fitted_batch_tokens=_fitted_batch_tokens(way),
        larger=None if larger is None else predicted(larger),
    )


def precision_for(cluster: Cluster) -> str:
    """bf16 where the device has it."""
    return "fp16" if cluster.gpu.half_type == "fp16" else "bf16"


def _rungs(cluster: Cluster, text: Text, precision: str, budget: Budget) -> list[_Rung]:
    """What fits of the ladder, the smallest first."""
    rungs = []
    for shape in LADDER:
        model = model_section(shape, text.vocab_size)
        way = best_way(model, shape.sequence_length, cluster, precision, budget)
        if way is not None:
            rungs.append(_Rung(shape, way, count_parameters(model).active))
    return rungs


def _largest_fed(rungs: list[_Rung], tokens_per_parameter: float) -> _Rung:
    """The last rung up to which each gets its tokens; the first in any case."""
    fed = itertools.takewhile(lambda rung: rung.tokens_per_parameter >= tokens_per_parameter, rungs[1:])
    return [rungs[0], *fed][-1]


def _larger(chosen: _Rung, rungs: list[_Rung], text: Text) -> _Rung | None:
    """The last rung above the chosen one up to which the text still limits and bits per byte clearly fall."""
    found: _Rung | None = None
    fewest = with_little_text(chosen.parameters, chosen.way.tokens, text.tokens)
    for rung in rungs[rungs.index(chosen) + 1 :]:
        bits = with_little_text(rung.parameters, rung.way.tokens, text.tokens)
        if not rung.way.is_text_limited or bits > fewest * (1 - WORTH_A_RUNG):
            break
        found, fewest = rung, bits
    return found


def _useful_text_gb(budget: Budget, prediction: Prediction) -> float:
    """GB of text that the hours could use at the speed of this run."""
    return budget.seconds * prediction.tokens_per_second * BYTES_PER_TOKEN / USEFUL_EPOCHS / 1e9


def _fitted_batch_tokens(way: Way) -> int | None:
    """Tokens of a step that the fit gives, where one sequence a rank is more."""
    wanted = way.wanted_batch_size * way.sequence_length
    return wanted if way.global_batch_size > way.wanted_batch_size else None


def _check_steps(way: Way, cluster: Cluster, budget: Budget) -> None:
    """Refuse what ends before its first step does."""
    if way.steps < 1:
        tokens = min(budget.tokens, budget.seconds * way.tokens_per_second)
        raise NothingToPropose(
            f"hours and text allow {tokens:,.0f} tokens, less than one step of the smallest model "
            f"({way.global_batch_size} sequences of {way.sequence_length} tokens on {cluster.world_size} ranks); give more "
            "hours (--hours), more text (--text-gb) or fewer ranks"
        )
