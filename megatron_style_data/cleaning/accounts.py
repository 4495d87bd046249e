"""Counts of a cleaning: by source and by step. Those of tasks add up to those of the corpus."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from megatron_style_data.cleaning.chain import Stage

# Lengths in characters: bin n holds 2**(n/2) up to 2**((n+1)/2); the last one what is longer.
LENGTH_BINS = 48
SHARE_BINS = 50


@dataclass(slots=True)
class Amount:
    """Texts, and how much is in them."""

    documents: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    tokens: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * LENGTH_BINS)

    def count(self, text: str, tokens: int = 0) -> None:
        """Adds one text."""
        self.documents += 1
        self.characters += len(text)
        self.utf8_bytes += len(text.encode("utf-8"))
        self.tokens += tokens
        self.lengths[length_bin(len(text))] += 1

    def add(self, other: "Amount") -> None:
        """Adds the texts of another amount."""
        self.documents += other.documents
        self.characters += other.characters
        self.utf8_bytes += other.utf8_bytes
        self.tokens += other.tokens
        self.lengths = [a + b for a, b in zip(self.lengths, other.lengths, strict=True)]


@dataclass(slots=True)
class SourceAccount:
    """What became of one source.

    Attributes:
        read: What was read.
        kept: What is in the corpus.
        dropped: Step to reason to documents.
        duplicates: Documents dropped as duplicates.
        licenses: Licence to documents read.
    """

    read: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    duplicates: int = 0
    licenses: dict[str, int] = field(default_factory=dict)

    def add(self, other: "SourceAccount") -> None:
        """Adds another part of the same source."""
        self.read.add(other.read)
        self.kept.add(other.kept)
        self.duplicates += other.duplicates
        for step, reasons in other.dropped.items():
            _add_counts(self.dropped.setdefault(step, {}), reasons)
        _add_counts(self.licenses, other.licenses)


@dataclass(slots=True)
class StepAccount:
    """What one step did.

    Attributes:
        seen: Documents that came to it.
        changed: Documents whose text it changed and that it did not drop.
        changes: Places it changed in them.
        characters_removed: Characters that those texts lost.
        dropped: Reason to documents.
        histograms: Measure with a share from 0 to 1 to documents in each of ``SHARE_BINS`` bins.
    """

    seen: int = 0
    changed: int = 0
    changes: int = 0
    characters_removed: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)

    def count(self, stage: Stage) -> None:
        """Adds one document."""
        self.seen += 1
        failed = stage.failed
        if failed is not None:
            reason = str(failed.reason)
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
        elif stage.outcome.changes:
            self.changed += 1
            self.changes += stage.outcome.changes
            self.characters_removed += max(0, len(stage.before) - len(stage.outcome.text))
        for measure in stage.outcome.measures:
            if measure.name.endswith("_share"):
                bins = self.histograms.get(measure.name)
                if bins is None:
                    bins = self.histograms[measure.name] = [0] * SHARE_BINS
                bins[min(SHARE_BINS - 1, int(measure.value * SHARE_BINS))] += 1

    def add(self, other: "StepAccount") -> None:
        """Adds what the step did elsewhere."""
        self.seen += other.seen
        self.changed += other.changed
        self.changes += other.changes
        self.characters_removed += other.characters_removed
        _add_counts(self.dropped, other.dropped)
        for name, bins in other.histograms.items():
            mine = self.histograms.setdefault(name, [0] * len(bins))
            self.histograms[name] = [a + b for a, b in zip(mine, bins, strict=True)]


@dataclass(slots=True)
class Accounts:
    """Counts of a task or a corpus: by source and by step, and of what could not be read."""

    sources: dict[str, SourceAccount] = field(default_factory=dict)
    steps: dict[str, StepAccount] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    first_unreadable: dict[str, list[str]] = field(default_factory=dict)

    def source(self, name: str) -> SourceAccount:
        """The account of a source."""
        account = self.sources.get(name)
        if account is None:
            account = self.sources[name] = SourceAccount()
        return account

    def step(self, label: str) -> StepAccount:
        """The account of a step."""
        account = self.steps.get(label)
        if account is None:
            account = self.steps[label] = StepAccount()
        return account

    def add(self, other: "Accounts") -> None:
        """Adds those of the next task."""
        for name, account in other.sources.items():
            self.source(name).add(account)
        for label, step in other.steps.items():
            self.step(label).add(step)
        _add_counts(self.unreadable, other.unreadable)
        for reason, places in other.first_unreadable.items():
            self.first_unreadable[reason] = (self.first_unreadable.get(reason, []) + places)[:5]

    def recorded(self) -> dict[str, Any]:
        """As JSON values, for ``from_record``."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Accounts":
        """The accounts that ``recorded`` gave."""
        sources = {
            name: SourceAccount(**{**one, "read": Amount(**one["read"]), "kept": Amount(**one["kept"])})
            for name, one in record["sources"].items()
        }
        steps = {label: StepAccount(**one) for label, one in record["steps"].items()}
        return cls(sources, steps, dict(record["unreadable"]), dict(record["first_unreadable"]))


def length_bin(characters: int) -> int:
    """The bin of a length."""
    return min(LENGTH_BINS - 1, int(2 * math.log2(characters))) if characters > 0 else 0


def _add_counts(mine: dict[str, int], theirs: Mapping[str, int]) -> None:
    for name, count in theirs.items():
        mine[name] = mine.get(name, 0) + count
