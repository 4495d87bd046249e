"""Findings in words: for the console, for events.jsonl, for a command."""

from collections.abc import Sequence
from typing import Any

from zhgpt.health.detector import Finding


def lines_of(finding: Finding) -> list[str]:
    """What a person reads of a finding: in Chinese and in English, each with what to do."""
    detector, seen = finding.detector, finding.newest
    return [
        f"! {detector.title_zh}（{detector.name}）：{seen.zh}",
        f"  {finding.advice_zh}",
        f"! {detector.title_en} ({detector.name}): {seen.en}",
        f"  {finding.advice_en}",
    ]


def event_fields(finding: Finding) -> dict[str, Any]:
    """The fields of a ``finding`` event."""
    detector, seen = finding.detector, finding.newest
    return {
        "step": finding.last_step,
        "detector": detector.name,
        "value": seen.value,
        "limit": seen.limit,
        "sentence": seen.en,
        "sentence_zh": seen.zh,
        "advice": finding.advice_en,
        "advice_zh": finding.advice_zh,
    }


def summary_lines(findings: Sequence[Finding]) -> list[str]:
    """All findings of a run, one after the other; where each begins and whether it is over stands in its first line."""
    lines = []
    for finding in findings:
        over = ", over" if finding.is_over else ""
        lines += [
            f"steps {finding.first_step:,} to {finding.last_step:,}{over}:",
            *(f"  {line}" for line in lines_of(finding)),
        ]
    return lines
