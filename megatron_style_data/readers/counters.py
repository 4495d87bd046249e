"""What was read, what was changed and what was dropped: nothing disappears without a count and a place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

FIRST_PLACES = 5
MAXIMUM_NOTES = 20

# Why a document is dropped, in words for messages.
DROP_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "empty",
        "low_score": "scored too low",
        "no_score": "without a score",
        "invalid_utf8": "invalid UTF-8",
        "invalid_gb18030": "invalid GB18030",
        "not_json": "not JSON",
        "no_text": "without a text",
        "too_long": "too long",
    }
)

# Those of them that say nothing against the file.
_NOT_BAD = ("empty", "low_score", "no_score")


@dataclass(slots=True)
class ReadCounters:
    """Counts of one reading; add those of several files or workers with ``add``.

    Attributes:
        documents: Documents handed out.
        utf8_bytes: Their UTF-8 bytes, as normalised.
        dropped: Reason (of ``DROP_REASONS``) to number of documents.
        first_places: Reason to the first ``FIRST_PLACES`` places, as ``file, line n: what was found``.
        changes: Change (of ``normalize.CHANGES``, and ``from_gb18030``) to how often.
        notes: What was found out about files while they were read, in words.
        quarantine: A JSON Lines file to which bad documents are appended; None: they are only counted.
    """

    documents: int = 0
    utf8_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    first_places: dict[str, list[str]] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list, compare=False)
    quarantine: Path | None = field(default=None, compare=False)

    @property
    def bad(self) -> int:
        """Documents that could not be read, without those that are empty or were left out by choice."""
        return sum(count for reason, count in self.dropped.items() if reason not in _NOT_BAD)

    def keep(self, utf8_bytes: int, changes: Mapping[str, int]) -> None:
        """Counts one document that is handed out."""
        self.keep_all(1, utf8_bytes)
        self.change(changes)

    def keep_all(self, documents: int, utf8_bytes: int) -> None:
        """Counts documents that are handed out."""
        self.documents += documents
        self.utf8_bytes += utf8_bytes

    def change(self, changes: Mapping[str, int]) -> None:
        """Counts what was changed in a document that is handed out."""
        for name, count in changes.items():
            self.changes[name] = self.changes.get(name, 0) + count

    def drop(self, reason: str, place: str) -> None:
        """Counts one document that is not."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        places = self.first_places.setdefault(reason, [])
        if len(places) < FIRST_PLACES:
            places.append(place)

    def drop_blank(self, where: str) -> None:
        """Counts one document without text, which is at ``where``."""
        self.drop("empty", f"{where}: no text but spaces")

    def note(self, words: str) -> None:
        """Keeps a note, as far as there are not too many."""
        if len(self.notes) < MAXIMUM_NOTES:
            self.notes.append(words)

    def add(self, other: "ReadCounters") -> None:
        """Adds the counts of a later part of the same reading."""
        self.documents += other.documents
        self.utf8_bytes += other.utf8_bytes
        for words in other.notes:
            self.note(words)
        for mine, theirs in ((self.dropped, other.dropped), (self.changes, other.changes)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        for reason, places in other.first_places.items():
            self.first_places[reason] = (self.first_places.get(reason, []) + places)[:FIRST_PLACES]

    def dropped_in_words(self, only_bad: bool = False) -> list[str]:
        """One line a reason, most frequent first: ``3 invalid UTF-8, first: a.jsonl, line 7: …``."""
        listed = [(reason, count) for reason, count in self.dropped.items() if not (only_bad and reason in _NOT_BAD)]
        ordered = sorted(listed, key=lambda item: (-item[1], item[0]))
        return [
            f"{count} {DROP_REASONS.get(reason, reason)}, first: {self.first_places[reason][0]}"
            for reason, count in ordered
        ]
