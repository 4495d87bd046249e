"""What the detectors found, on the page, in the plots and from the command; on real runs."""

import json
from pathlib import Path

import pytest
from recorded_runs import recorded

from zhgpt.cli.report import command
from zhgpt.evaluate.learning_verdict import Floor
from zhgpt.health.telling import lines_of, summary_lines
from zhgpt.report.drawing import Curves
from zhgpt.report.health_plots import HEALTH_PLOTS
from zhgpt.report.plots import PLOTS, render_svg
from zhgpt.train.json_lines import encode_line


@pytest.fixture
def stuck_run(tmp_path: Path) -> Path:
    """The folder of a real run at a fine-tuning rate, with what the report reads."""
    run = recorded("failing_rate")
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(encode_line(record) for record in run.records))
    floor = {"unigram_loss": run.facts.unigram_loss, "bigram_loss": run.facts.bigram_loss}
    (tmp_path / "environment.json").write_text(json.dumps({"floor": floor}))
    return tmp_path


def test_the_page_lists_findings_in_both_languages_with_what_to_do(stuck_run: Path) -> None:
    command(stuck_run)
    page = (stuck_run / "report.html").read_text("utf-8")
    assert "Stuck at the unigram line" in page
    assert "停在词频基准线上" in page
    assert "2e-05 是微调用的学习率" in page


def test_the_command_prints_where_each_finding_begins(stuck_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(stuck_run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [str(stuck_run / "report.html"), "steps 250 to 300:"]
    assert lines[2].startswith("  ! 停在词频基准线上（stuck_at_unigram）：")


def test_a_finding_that_is_over_says_so() -> None:
    findings = recorded("failing_spike").watch().findings
    assert summary_lines(findings)[0] == "steps 185 to 185, over:"
    assert len(lines_of(findings[0])) == 4


def test_findings_are_marked_in_the_plot_of_the_loss() -> None:
    run = recorded("failing_spike")
    plain = render_svg(PLOTS[0], Curves(run.records, Floor()))
    marked = render_svg(PLOTS[0], Curves(run.records, Floor(), findings=run.watch().findings))
    assert plain is not None
    assert marked is not None
    assert b"#b3261e" in marked
    assert b"#b3261e" not in plain


@pytest.mark.parametrize("plot", HEALTH_PLOTS, ids=lambda plot: plot.name)
def test_ratios_and_samples_are_drawn_where_they_were_measured(plot: object) -> None:
    run = recorded("healthy_dense")
    assert render_svg(plot, Curves(run.records, Floor())) is not None  # type: ignore[arg-type]
    assert render_svg(plot, Curves([{"step": 1, "loss": 5.0}], Floor())) is None  # type: ignore[arg-type]
