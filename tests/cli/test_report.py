"""`zhgpt report` from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest


def _report(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from zhgpt.cli.main import main; main()", "report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 10, "loss": 8.5}\n', "utf-8")
    return folder


def test_the_report_is_written_into_the_runs_folder_and_its_path_printed(run_dir: Path) -> None:
    done = _report(str(run_dir))
    assert (done.returncode, done.stdout) == (0, f"{run_dir / 'report.html'}\n"), done.stderr
    assert (run_dir / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_output_and_plots_are_options(run_dir: Path, tmp_path: Path) -> None:
    done = _report(str(run_dir), "--output", str(tmp_path / "page.html"), "--plots", str(tmp_path / "plots"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").is_file()
    assert (tmp_path / "plots" / "loss.png").is_file()


def test_a_missing_run_is_one_sentence_and_exit_code_66(tmp_path: Path) -> None:
    done = _report(str(tmp_path / "none"))
    assert done.returncode == 66
    assert done.stderr == f"error: {tmp_path}/none: no such folder; give the folder of a run, such as runs/<name>\n"
