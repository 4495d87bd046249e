"""What a detector is, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass

from zhgpt.health.history import History


@dataclass(frozen=True)
class Sighting:
    """What a detector sees in the newest record.

    Attributes:
        value: the number that is out of bounds.
        limit: the bound.
        en: a sentence with the numbers.
        zh: the same in Chinese.
        advice_en: what to do in this case; left out: what the detector says.
        advice_zh: the same in Chinese.
    """

    value: float
    limit: float
    en: str
    zh: str
    advice_en: str | None = None
    advice_zh: str | None = None


@dataclass(frozen=True)
class Detector:
    """One thing that goes wrong with runs.

    Attributes:
        name: as in events.jsonl and docs/health.md.
        title_en: in a few words.
        title_zh: the same in Chinese.
        threshold: the rule in words, with its numbers.
        look: what it sees at the end of a history, or None. A pure function: the same records give the same findings,
            whether the run lives, was resumed, or is over.
        advice_en: what to do where the sighting does not say it.
        advice_zh: the same in Chinese.
        field: the metric that it looks at first: a record without it says nothing, and its curve shows the finding.
        clean_records: how many records with that metric must be clean for a finding to be over, so that what flickers at
            its limit is one finding, not many; one for what only evaluations measure.
    """

    name: str
    title_en: str
    title_zh: str
    threshold: str
    look: Callable[[History], Sighting | None]
    advice_en: str
    advice_zh: str
    field: str = "loss"
    clean_records: int = 5


@dataclass
class Finding:
    """A stretch of a run in which a detector saw something.

    Attributes:
        detector: whose.
        first_step: of the record where it was seen first.
        last_step: of the newest record where it was seen.
        first: what was seen at first.
        newest: what was seen last.
        is_over: whether a later record was clean.
    """

    detector: Detector
    first_step: int
    last_step: int
    first: Sighting
    newest: Sighting
    is_over: bool = False

    @property
    def advice_en(self) -> str:
        """What to do."""
        return self.newest.advice_en or self.detector.advice_en

    @property
    def advice_zh(self) -> str:
        """The same in Chinese."""
        return self.newest.advice_zh or self.detector.advice_zh
