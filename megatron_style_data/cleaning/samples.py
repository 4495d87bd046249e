"""Samples of what steps dropped and changed, the same whatever the order in which tasks finish."""

import bisect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from megatron_style_data.cleaning.chain import Stage
from megatron_style_data.cleaning.measures import Measure
from megatron_style_data.cleaning.recipe import kind_of
from megatron_style_data.cleaning.steps import STEPS
from megatron_style_data.document import Document

Entry = dict[str, Any]
EXCERPT_CHARACTERS = 60
NEAR_CHARACTERS = 40  # of the documents in the tables near a bound: enough to know what it is


@dataclass(slots=True)
class Smallest:
    """The ``most`` entries with the smallest keys of all that were offered; two of them merge into one.

    Attributes:
        most: Entries to keep.
        entries: (key, tie breaker, entry), ascending.
    """

    most: int
    entries: list[tuple[float, int, Entry]] = field(default_factory=list)

    def offer(self, key: float, tie: int, make: Callable[[], Entry]) -> None:
        """Keeps an entry if its key is among the smallest; ``make`` is called only then."""
        if self.most and (len(self.entries) < self.most or (key, tie) < self.entries[-1][:2]):
            bisect.insort(self.entries, (key, tie, make()), key=lambda entry: entry[:2])
            del self.entries[self.most :]

    def merge(self, others: Iterable[tuple[float, int, Entry]]) -> None:
        """Offers what another one kept."""
        for key, tie, entry in others:
            self.offer(key, tie, lambda entry=entry: entry)  # type: ignore[misc]


@dataclass(slots=True)
class Samples:
    """Samples of one task, or of all.

    Attributes:
        a_step: How many to keep of each step and kind.
        near: How many documents nearest each bound to keep, on either side.
        characters: Longest text of a sample.
        kept: Name (``dropped/length``, ``changed/width``, ``near/length/characters < 50/kept``) to the entries.
    """

    a_step: int
    near: int
    characters: int
    kept: dict[str, Smallest] = field(default_factory=dict)

    def take(self, document: Document, stage: Stage) -> None:
        """Considers what one step did to one document."""
        label, failed = stage.step.label, stage.failed
        if failed is None and not stage.outcome.changes and not self.near:
            return
        tie = xxhash.xxh3_64_intdigest(f"{label}\0{document.source}\0{document.place}\0{document.text[:200]}".encode())
        if failed is not None:
            self._at(f"dropped/{label}", self.a_step).offer(0, tie, lambda: self._dropped(document, stage, failed))
        elif stage.outcome.changes:
            self._at(f"changed/{label}", self.a_step).offer(0, tie, lambda: self._changed(document, stage))
        if self.near:
            self._near(document, stage, failed, tie)

    def merge(self, recorded: Mapping[str, list[tuple[float, int, Entry]]]) -> None:
        """Adds the samples of another task."""
        for name, entries in recorded.items():
            self._at(name, self.near if name.startswith("near/") else self.a_step).merge(entries)

    def recorded(self) -> dict[str, list[tuple[float, int, Entry]]]:
        """The samples as JSON values, for ``merge``."""
        return {name: smallest.entries for name, smallest in self.kept.items()}

    def entries(self, name: str) -> list[Entry]:
        """The samples of that name, in their order."""
        return [entry for _, _, entry in self.kept[name].entries] if name in self.kept else []

    def _at(self, name: str, most: int) -> Smallest:
        return self.kept.setdefault(name, Smallest(most))

    def _dropped(self, document: Document, stage: Stage, failed: Measure) -> Entry:
        return {**_place(document), **_measured(failed), "text": stage.outcome.text[: self.characters]}

    def _changed(self, document: Document, stage: Stage) -> Entry:
        before, after = around_difference(stage.before, stage.outcome.text)
        entry = {**_place(document), "changes": stage.outcome.changes, "before": before, "after": after}
        if STEPS[kind_of(stage.step.label)].private:
            del entry["before"]
        return entry

    def _near(self, document: Document, stage: Stage, failed: Measure | None, tie: int) -> None:
        for measure in stage.outcome.measures:
            if failed is not None and measure is not failed:
                continue
            for drops, bound in measure.bounds():
                if failed is not None and drops != measure.reason:
                    continue
                side = "kept" if failed is None else "dropped"
                nearest = self._at(f"near/{stage.step.label}/{drops}/{side}", self.near)
                nearest.offer(abs(measure.value - bound), tie, lambda m=measure: self._nearest(document, stage, m))  # type: ignore[misc]

    def _nearest(self, document: Document, stage: Stage, measure: Measure) -> Entry:
        text = " ".join(stage.outcome.text[: 4 * NEAR_CHARACTERS].split())[:NEAR_CHARACTERS]
        return {**_place(document), "value": round(measure.value, 6), "text": text}


def around_difference(before: str, after: str) -> tuple[str, str]:
    """Short excerpts of two texts around the first place where they differ."""
    low, high = 0, min(len(before), len(after))
    while low < high:  # the longest common beginning, by halves: slices compare fast
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    start = max(0, low - EXCERPT_CHARACTERS // 3)
    return before[start : start + EXCERPT_CHARACTERS], after[start : start + EXCERPT_CHARACTERS]


def _place(document: Document) -> Entry:
    return {"source": document.source, "place": document.place}


def _measured(measure: Measure) -> Entry:
    entry: Entry = {"reason": measure.reason, "measure": measure.name, "value": round(measure.value, 6)}
    return {**entry, "detail": measure.detail} if measure.detail else entry
