"""What a cleaning step says about a text: what it measured, between which bounds, and the text it leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """One number measured on a text and the bounds it has to keep.

    Attributes:
        name: What was measured, as in the docs: ``cjk_share``, ``characters`` ...
        value: The number; shares are from 0 to 1.
        low: The text is dropped below this; None: no bound.
        high: The text is dropped above this; None: no bound.
        detail: What was found, for people: the phrase of a blocklist, the evaluation item.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    detail: str = ""

    @property
    def fails(self) -> bool:
        """Whether a bound is not kept."""
        low, high = self.low, self.high
        return (low is not None and self.value < low) or (high is not None and self.value > high)

    @property
    def reason(self) -> str | None:
        """Why the text is dropped, such as ``cjk_share < 0.3``; None where the bounds are kept."""
        if not self.fails:
            return None
        if self.low is not None and self.value < self.low:
            return f"{self.name} < {spell(self.low)}"
        assert self.high is not None
        return f"{self.name} > {spell(self.high)}"

    def bounds(self) -> list[tuple[str, float]]:
        """The bounds there are, and what is dropped, such as ``("cjk_share < 0.3", 0.3)``."""
        named = (("<", self.low), (">", self.high))
        return [(f"{self.name} {sign} {spell(bound)}", bound) for sign, bound in named if bound is not None]


def spell(number: float) -> str:
    """A measured number or a bound in words: counts whole, shares with what matters of them."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.4g}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made of a text.

    Attributes:
        text: The text after the step; the same object where nothing changed.
        measures: What was measured. The text is dropped by the first one outside its bounds.
        changes: Places that were changed (characters, tags, lines or marks, as the step says).
    """

    text: str
    measures: tuple[Measure, ...] = ()
    changes: int = 0

    @property
    def failed(self) -> Measure | None:
        """The first measure outside its bounds, or None."""
        for measure in self.measures:
            if measure.fails:
                return measure
        return None


# A prepared step: from a text and the record's other fields to what is left of it. Pure; the same whatever came before.
StepFunction = Callable[[str, Mapping[str, Any]], Outcome]
