"""CI's check for skipped tests, over reports that the real pytest wrote."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / ".ci" / "check_skips.py"

TESTS = """
import pytest
def test_runs(): pass
@pytest.mark.skip(reason={reason!r})
def test_is_skipped(): pass
"""


def report_of(folder: Path, reason: str) -> Path:
    (folder / "tests" / "model").mkdir(parents=True)
    (folder / "tests" / "model" / "test_a.py").write_text(TESTS.format(reason=reason))
    report = folder / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--rootdir",
        str(folder),
        "-c",
        "/dev/null",
        "-o",
        "junit_family=xunit1",
    ]
    subprocess.run([*command, f"--junitxml={report}", "tests"], cwd=folder, timeout=60, check=True, capture_output=True)
    return report


def check(*reports: Path) -> subprocess.CompletedProcess[str]:
    """Runs the check; the groups that never ran in these small reports are left out of what it says."""
    command = [sys.executable, str(CHECK), *map(str, reports)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_skip_without_an_allowed_reason_is_an_error(tmp_path: Path) -> None:
    done = check(report_of(tmp_path, "flash-attn is not installed"))
    assert done.returncode == 1
    assert "tests/model/test_a.py::test_is_skipped was skipped: flash-attn is not installed" in done.stderr


@pytest.mark.parametrize(
    "reason",
    [
        "needs a GPU: compiles a kernel",
        "needs Triton, which a CPU build of torch comes without",
        "flash2: the package flash-attn is not installed (pip install …)",
    ],
)
def test_a_skip_for_want_of_a_gpu_or_of_what_comes_with_one_is_none(tmp_path: Path, reason: str) -> None:
    done = check(report_of(tmp_path, reason))
    assert "was skipped" not in done.stderr
    assert f"1 x {reason}" in done.stdout


def test_a_group_of_which_no_test_ran_is_an_error(tmp_path: Path) -> None:
    done = check(report_of(tmp_path, "needs a GPU"))
    assert done.returncode == 1
    assert "no test of tests/setup ran" in done.stderr
    assert "no test of tests/model ran" not in done.stderr


@pytest.mark.parametrize("content", [None, "<testsuite"])
def test_a_report_that_is_missing_or_cut_is_an_error(tmp_path: Path, content: str | None) -> None:
    report = tmp_path / "report.xml"
    if content is not None:
        report.write_text(content)
    done = check(report)
    assert done.returncode == 1
    assert f"{report} is no test report" in done.stderr
