"""Fails when a test was skipped for a reason that is not allowed, or when a group of tests did not run at all.

check_skips.py REPORT.xml...        pytest's --junitxml files
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The start of a reason -> why a machine may skip for it. Everything else must run here.
ALLOWED_REASONS: dict[str, str] = {
    "needs a GPU": "there is none; the CPU reference of the same code runs",
    "needs a CUDA GPU": "the same",
    "needs Triton": "a CPU build of torch comes without, and it changes what torch and DeepSpeed do; `make test-kernels`",
    "flash2: ": "on a GPU: flash-attn is an extra that has to be compiled; its calls are tested over a stand-in",
}


@dataclass(frozen=True)
class Outcome:
    """One test of a report: the group is the folder or file below tests/; the reason is None unless it was skipped."""

    group: str
    name: str
    reason: str | None


def read_outcomes(report: Path) -> list[Outcome]:
    """All tests of one report.

    Raises:
        SystemExit: the file is missing or no report; a run that wrote none did not finish.
    """
    try:
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return [_outcome(case) for case in cases]
    except (OSError, ElementTree.ParseError) as error:
        raise SystemExit(f"error: {report} is no test report ({error}); did pytest run to its end?") from None


def _outcome(case: ElementTree.Element) -> Outcome:
    path = case.get("file") or case.get("classname", "").replace(".", "/") + ".py"
    skipped = case.find("skipped")
    reason = None
    if skipped is not None and skipped.get("type") != "pytest.xfail":
        reason = skipped.get("message", "").removeprefix("Skipped: ")
    return Outcome(_group(path), f"{path}::{case.get('name')}", reason)


def _group(path: str) -> str:
    parts = Path(path).parts
    below = parts[parts.index("tests") + 1 :] if "tests" in parts else parts
    return below[0] if below else path


def expected_groups() -> set[str]:
    """Folders below tests/ with a test file in them, and test files directly in tests/."""
    files = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    return {path.parts[0] for path in files}


def problems(outcomes: Sequence[Outcome], groups: set[str]) -> list[str]:
    """One sentence for each skip that is not allowed and each group of which no test ran."""
    found = [
        f"{outcome.name} was skipped: {outcome.reason}"
        for outcome in outcomes
        if outcome.reason is not None and not outcome.reason.startswith(tuple(ALLOWED_REASONS))
    ]
    ran = {outcome.group for outcome in outcomes if outcome.reason is None}
    return [*found, *(f"no test of tests/{group} ran" for group in sorted(groups - ran))]


def main(reports: Sequence[str]) -> int:
    """Prints what ran and what was skipped; 1 if something is wrong."""
    outcomes = [outcome for report in reports for outcome in read_outcomes(Path(report))]
    counts = Counter(outcome.group for outcome in outcomes if outcome.reason is None)
    skips = Counter(outcome.reason for outcome in outcomes if outcome.reason is not None)
    print("ran:", ", ".join(f"{group} {count}" for group, count in sorted(counts.items())))
    print("skipped:", ", ".join(f"{count} x {reason}" for reason, count in skips.items()) or "none")
    found = problems(outcomes, expected_groups())
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
