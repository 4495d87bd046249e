"""All detectors over a run's records, one record at a time: what begins, what goes on, what is over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zhgpt.health.detector import Finding
from zhgpt.health.detectors import DETECTORS
from zhgpt.health.history import Facts, History


@dataclass
class Watch:
    """Sees each record once. It has no state that the records do not give again.

    Attributes:
        history: of the run.
        findings: all so far, in the order in which they began.
    """

    history: History
    findings: list[Finding] = field(default_factory=list)
    _open: dict[str, Finding] = field(default_factory=dict)
    _clean: dict[str, int] = field(default_factory=dict)

    @classmethod
    def over(cls, facts: Facts, records: Iterable[Mapping[str, Any]] = ()) -> "Watch":
        """A watch that has seen these records."""
        watch = cls(History(facts))
        for record in records:
            watch.see(record)
        return watch

    def see(self, record: Mapping[str, Any]) -> tuple[list[Finding], list[Finding]]:
        """Takes one record in.

        Returns:
            The findings that begin with it, and those that are over with it; none in a range test.
        """
        self.history.add(record)
        if self.history.facts.is_range_test:
            return [], []
        begun, ended = [], []
        for detector in DETECTORS.values():
            known = self._open.get(detector.name)
            sighting = detector.look(self.history)
            if sighting is not None:
                self._clean[detector.name] = 0
                if known is not None:
                    known.newest, known.last_step = sighting, self.history.step
                    continue
                finding = Finding(detector, self.history.step, self.history.step, sighting, sighting)
                self._open[detector.name] = finding
                self.findings.append(finding)
                begun.append(finding)
            elif known is not None and self.history.now(detector.field) is not None:
                self._clean[detector.name] += 1
                if self._clean[detector.name] == detector.clean_records:
                    known.is_over = True
                    ended.append(self._open.pop(detector.name))
        return begun, ended
