"""Write a run's report.html: one file, no script, nothing fetched, readable from ``file://``."""

from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from megatron_style_data.atomic import atomic_write_bytes
from zhgpt.report.health_plots import HEALTH_PLOTS
from zhgpt.report.page import EVALUATION_COLUMNS, Page, build_page, curves_of
from zhgpt.report.plots import PLOTS, render_png
from zhgpt.report.recorded_run import read_run
from zhgpt.report.routing_plots import ROUTING_PLOTS

REPORT_FILE = "report.html"


def write_report(run_dir: Path, output: Path | None = None, plots: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        run_dir: the run's folder.
        output: the file to write; ``report.html`` in the run's folder if ``None``.
        plots: a folder for the pictures as PNG files too.

    Returns:
        the file that was written.

    Raises:
        MissingInputError: there is no such folder, or it is not a run's.
        StorageError: the report cannot be written.
    """
    run = read_run(run_dir)
    target = run_dir / REPORT_FILE if output is None else output
    # replace: half a surrogate pair, which JSON can hold and UTF-8 cannot.
    atomic_write_bytes(target, render(build_page(run)).encode("utf-8", "replace"))
    curves = curves_of(run) if plots is not None else None
    for plot in (*PLOTS, *HEALTH_PLOTS, *ROUTING_PLOTS):
        picture = render_png(plot, curves) if curves is not None else None
        if plots is not None and picture is not None:
            atomic_write_bytes(plots / f"{plot.name}.png", picture)
    return target


def render(page: Page) -> str:
    """The page as HTML; every text is escaped."""
    source = resources.files("zhgpt.report").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(page=page, evaluation_columns=EVALUATION_COLUMNS)
