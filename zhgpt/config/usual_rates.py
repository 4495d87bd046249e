"""Learning rates that pretraining usually takes, and how a run's own compare with them."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from zhgpt.config.batch_plan import BatchPlan
from zhgpt.config.derived import at_base_width, peak_learning_rate
from zhgpt.config.fits import learning_rate_for
from zhgpt.config.optim_groups import Role, settings_of
from zhgpt.config.schema import OptimSection, RunConfig

GPT3_LEARNING_RATES: tuple[tuple[float, float], ...] = (
    (125e6, 6.0e-4),
    (350e6, 3.0e-4),
    (760e6, 2.5e-4),
    (1.3e9, 2.0e-4),
    (2.7e9, 1.6e-4),
    (6.7e9, 1.2e-4),
    (13e9, 1.0e-4),
    (175e9, 0.6e-4),
)
"""Parameters and peak learning rate of GPT-3's sizes: Brown et al. 2020, table 2.1."""

RATE_FACTOR = 5.0
"""A learning rate further than this from the size's usual one is warned of; as far above the warned-of ones again, it is said
to fail."""

FIT_FACTOR = 2.0
"""A learning rate above the usual one's range is not warned of up to this many times what `zhgpt.config.fits` gives."""

FINE_TUNING_RATE = 5e-5
"""At and below this, a learning rate is one that fine-tunes a trained model."""

OWN_RATES: dict[Role, str] = {
    "hidden": "muon_learning_rate",
    "embedding": "embedding_learning_rate",
    "head": "head_learning_rate",
}
"""The setting of its own that a kind of matrix may have; left out, it takes optim.learning_rate."""


@dataclass(frozen=True, slots=True)
class RateJudgement:
    """A peak learning rate beside those that pretraining takes.

    Attributes:
        setting: that the rate comes from.
        role: of the matrices it moves.
        rate: of them; under muP at the base width.
        usual: at this size.
        low, high: below and above these it is warned of.
        size: parameters that it is judged by; under muP those at the base width.
    """

    setting: str
    role: Role
    rate: float
    usual: float
    low: float
    high: float
    size: int

    @property
    def is_low(self) -> bool:
        """Whether the matrices learn slowly at best."""
        return self.rate < self.low

    @property
    def is_high(self) -> bool:
        """Whether the loss may diverge."""
        return self.rate > self.high

    @property
    def is_far_too_low(self) -> bool:
        """Whether the rate is one that fine-tunes and, at this size, teaches next to nothing."""
        return self.is_low and self.rate <= FINE_TUNING_RATE

    @property
    def is_far_too_high(self) -> bool:
        """Whether the loss will diverge."""
        return self.rate > RATE_FACTOR * self.high


def usual_learning_rate(parameters: int) -> float:
    """Peak learning rate that pretraining usually takes at a model size.

    From 125M parameters on, GPT-3's table, interpolated on logarithmic axes; below it 0.003239 - 0.0001395 ln(N)
    (Kaplan et al. 2020, appendix D.6), which meets the table at its first row to within 10 %.
    """
    smallest, largest = GPT3_LEARNING_RATES[0], GPT3_LEARNING_RATES[-1]
    if parameters < smallest[0]:
        return max(smallest[1], 0.003239 - 0.0001395 * math.log(max(1, parameters)))
    if parameters >= largest[0]:
        return largest[1]
    for (low, low_rate), (high, high_rate) in itertools.pairwise(GPT3_LEARNING_RATES):
        if parameters <= high:
            share = math.log(parameters / low) / math.log(high / low)
            return math.exp(math.log(low_rate) * (1 - share) + math.log(high_rate) * share)
    raise AssertionError("the table covers every size between its first and last row")


def judge_rates(config: RunConfig, plan: BatchPlan, active: int, non_embedding: int) -> list[RateJudgement]:
    """The learning rate of the matrices of attention and feed-forward layers, then those of tables and head that differ.

    Args:
        config: the run's settings.
        plan: its batch plan.
        active: parameters that a token passes.
        non_embedding: parameters without tables and an untied head.
    """
    peak = peak_learning_rate(config, plan, non_embedding)
    optim = config.optim.model_copy(update={"learning_rate": peak})
    size, fitted = at_base_width(config, active), at_base_width(config, non_embedding)
    usual = usual_learning_rate(size)
    # Later fits of swept rates lie above GPT-3's table for small models: what they give is not called high.
    high = max(usual * RATE_FACTOR, FIT_FACTOR * learning_rate_for(fitted, plan.total_tokens))
    found: dict[str, RateJudgement] = {}
    for role, setting in _settings(optim, tied=config.model.tie_word_embeddings):
        # Tables and heads bear higher rates than hidden matrices: one set for them alone is never called high.
        most = math.inf if role != "hidden" and setting != "optim.learning_rate" else high
        rate = settings_of(role, optim).learning_rate
        found.setdefault(setting, RateJudgement(setting, role, rate, usual, usual / RATE_FACTOR, most, size))
    return list(found.values())


def _settings(optim: OptimSection, *, tied: bool) -> Iterator[tuple[Role, str]]:
    """Each kind of matrix with the setting that its rate comes from; a tied head is the embedding."""
    for role, own in OWN_RATES.items():
        if role != "head" or not tied:
            yield role, f"optim.{own if getattr(optim, own) is not None else 'learning_rate'}"
