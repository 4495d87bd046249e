"""The pin check itself: its table names real files and probes, and at the pinned versions every quirk is still there."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def listing(expression: str) -> list[str]:
    """What an expression over the pin check's tables prints, one item a line."""
    code = f"import check_pins, launcher_probes\nprint(*({expression}), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.split("\n")[:-1]


def test_every_guard_named_in_the_table_is_there() -> None:
    for guard in listing("q.guard for q in (*check_pins.QUIRKS, check_pins.MUST_NOT_APPEAR)"):
        name, _, function = guard.partition(":")
        assert (ROOT / name).is_file(), guard
        assert not function or f"\ndef {function}(" in (ROOT / name).read_text(), guard


def test_every_quirk_has_a_probe() -> None:
    in_engine = (HERE / "engine_probes.py").read_text()
    in_launchers = listing("probe.__name__ for probe in launcher_probes.PROBES")
    names = listing("q.probe for q in (*check_pins.QUIRKS, check_pins.MUST_NOT_APPEAR)")
    assert [name for name in names if f"def {name}(" not in in_engine and name not in in_launchers] == []


@pytest.mark.sweep
def test_at_the_pinned_versions_every_guarded_quirk_is_still_there() -> None:
    command = [sys.executable, str(HERE / "check_pins.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=420, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 gone, 0 not known" in done.stdout, done.stdout
