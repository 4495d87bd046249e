"""``zhgpt report``: a run's folder as one page that opens anywhere."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="The run's folder, such as runs/demo.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write (default: report.html in the run's folder)."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="A folder to write the plots to as PNG files too.")
    ] = None,
) -> None:
    """Make a run's report.html: one file that works offline."""
    from zhgpt.health.telling import summary_lines
    from zhgpt.report.page import findings_in
    from zhgpt.report.recorded_run import read_run
    from zhgpt.report.write import write_report

    typer.echo(write_report(run, output, plots))
    for line in summary_lines(findings_in(read_run(run))):
        typer.echo(line)
