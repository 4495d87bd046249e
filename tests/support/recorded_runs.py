"""Reads the recorded runs in tests/health/recorded; record_runs.py made them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from zhgpt.health.history import Facts
from zhgpt.health.watch import Watch
from zhgpt.train.json_lines import decode_line

RECORDED = Path(__file__).resolve().parents[1] / "health" / "recorded"


@dataclass(frozen=True)
class Recorded:
    """Facts and metrics of one real run."""

    overrides: list[str]
    facts: Facts
    records: list[dict[str, Any]]

    def watch(self) -> Watch:
        """The detectors over the whole run."""
        return Watch.over(self.facts, self.records)

    def found(self) -> set[str]:
        """Names of the detectors that found something."""
        return {finding.detector.name for finding in self.watch().findings}


def recorded(name: str) -> Recorded:
    """The run of that name."""
    lines = zstandard.ZstdDecompressor().decompress((RECORDED / f"{name}.jsonl.zst").read_bytes()).splitlines()
    head = json.loads(lines[0])
    return Recorded(head["overrides"], Facts(**head["facts"]), [decode_line(line) for line in lines[1:]])
