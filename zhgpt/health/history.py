"""What detectors look at: the facts of a run, and its metrics so far. Both come from the run's files alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

SMOOTHED = 5
"""Records whose median stands for "now": one wild step leaves no trace."""


@dataclass(frozen=True)
class Facts:
    """What is known of a run before its first step; each may be None.

    Attributes:
        unigram_loss: of the dataset, nats per token.
        bigram_loss: the same.
        tokens_per_parameter: of the whole plan, by active parameters.
        train_tokens: of the training split.
        parameters: all, active for a token.
        total_tokens: of the whole plan.
        tokens_per_byte: of the training split.
        steps: of the whole plan.
        hidden_rate_factor: learning rate of the blocks' matrices over that of the records, which is optim.learning_rate's.
        schedule: name of the learning rate's.
    """

    unigram_loss: float | None = None
    bigram_loss: float | None = None
    tokens_per_parameter: float | None = None
    train_tokens: float | None = None
    parameters: float | None = None
    total_tokens: float | None = None
    tokens_per_byte: float | None = None
    steps: float | None = None
    hidden_rate_factor: float | None = None
    schedule: str | None = None

    @property
    def is_range_test(self) -> bool:
        """Whether the learning rate is driven up until the loss diverges: such a run is meant to end ill."""
        return self.schedule == "range_test"


def facts_of(environment: Mapping[str, Any]) -> Facts:
    """The facts in a run's ``environment.json``, as far as they are there."""
    total, active = _number(environment, "batch_plan", "total_tokens"), _number(environment, "parameters", "active")
    active = active or _number(environment, "parameters", "total")
    unigram = _number(environment, "floor", "unigram_loss")
    bits = _number(environment, "floor", "unigram_bits_per_byte")
    schedule = environment.get("schedule")
    return Facts(
        unigram_loss=unigram,
        bigram_loss=_number(environment, "floor", "bigram_loss"),
        tokens_per_parameter=total / active if total and active else None,
        train_tokens=_number(environment, "dataset", "splits", "train", "tokens"),
        parameters=active,
        total_tokens=total,
        tokens_per_byte=bits * math.log(2) / unigram if bits and unigram else None,
        steps=_number(environment, "batch_plan", "steps"),
        hidden_rate_factor=_hidden_rate_factor(environment),
        schedule=schedule if isinstance(schedule, str) else None,
    )


@dataclass
class History:
    """The records of metrics.jsonl so far, by field; detectors read the end of them.

    Attributes:
        facts: of the run.
        records: all, in order.
        smooth: the median of each finite training loss and the few before it.
        best: the lowest of ``smooth``, and the step it belongs to.
    """

    facts: Facts
    records: list[Mapping[str, Any]] = field(default_factory=list)
    smooth: list[float] = field(default_factory=list)
    best: tuple[float, int] = (math.inf, 0)
    _series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes one record in."""
        self.records.append(record)
        for name, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._series.setdefault(name, []).append((record["step"], float(value)))
        loss = self.now("loss")
        if loss is not None and math.isfinite(loss):
            self.smooth.append(median(value for value in self.last("loss", SMOOTHED) if math.isfinite(value)))
            if len(self.smooth) >= SMOOTHED and self.smooth[-1] < self.best[0]:
                self.best = (self.smooth[-1], record["step"])

    @property
    def step(self) -> int:
        """Of the newest record."""
        step: int = self.records[-1]["step"]
        return step

    @property
    def is_last(self) -> bool:
        """Whether the newest record is of the plan's last step."""
        return self.facts.steps is not None and self.step >= self.facts.steps

    def hidden_rate(self, rate: float) -> float:
        """The learning rate of the blocks' matrices where a record has this one."""
        return rate * (self.facts.hidden_rate_factor or 1.0)

    @property
    def epochs(self) -> float | None:
        """How often the training text has been read."""
        consumed, whole = self.now("consumed_tokens"), self.facts.train_tokens
        return consumed / whole if consumed and whole else None

    def now(self, name: str) -> float | None:
        """The newest record's number; None where it has none."""
        points = self._series.get(name)
        return points[-1][1] if points and points[-1][0] == self.step else None

    def points(self, name: str) -> Sequence[tuple[int, float]]:
        """(step, value) of every record that has a number there."""
        return self._series.get(name, [])

    def last(self, name: str, count: int, *, but: int = 0) -> list[float]:
        """The newest values but the last few, at most ``count``, oldest first."""
        points = self._series.get(name, [])
        end = len(points) - but
        return [value for _, value in points[max(0, end - count) : max(0, end)]]


def _hidden_rate_factor(environment: Mapping[str, Any]) -> float | None:
    """From the list of the optimizer's groups; what muP scales has groups of its own."""
    listed = environment.get("optimizer_groups")
    groups = [group for group in listed if isinstance(group, Mapping)] if isinstance(listed, list) else []
    hidden = [group for group in groups if "hidden" in (group.get("roles") or ())]
    by_width = [group for group in hidden if str(group.get("name")).endswith("_by_width")]
    factors = [_number(group, "rate_factor") for group in by_width or hidden]
    return min((factor for factor in factors if factor), default=None)


def _number(tree: Mapping[str, Any], *keys: str) -> float | None:
    value: Any = tree
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
