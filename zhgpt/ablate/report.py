"""Writes an ablation's report: one HTML page, Markdown, and the numbers as CSV."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from megatron_style_data.atomic import atomic_write_bytes, atomic_write_text
from zhgpt.ablate.comparison import BASES, FEWEST_SEEDS, Comparison, compare
from zhgpt.ablate.folder import AblationFolder
from zhgpt.ablate.observed import Observed, observe
from zhgpt.ablate.pictures import PICTURES, Shown, render
from zhgpt.ablate.plan import Plan
from zhgpt.ablate.tables import (
    Table,
    comparisons_csv,
    cost_table,
    curves_csv,
    dataset_table,
    markdown,
    result_table,
    results_csv,
    run_table,
    settings_table,
)

_NOTE_ON_DATASETS = (
    "By dataset: bits per byte at the end of the runs, mean over the seeds, and Δ, the mean of the differences to the baseline's "
    "end, paired by seed, however many tokens each took. There ± is over the seeds alone, and nothing is decided by one dataset."
)


@dataclass(frozen=True)
class Figure:
    """A picture as a data URI."""

    title: str
    caption: str
    wide: bool
    source: str


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    name: str
    question: str
    state: str
    finished: bool
    sentences: tuple[str, ...]
    results: Table
    datasets: Table | None
    costs: Table
    runs: Table
    settings: Table
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


def write_ablation_report(folder: AblationFolder, plan: Plan) -> Path:
    """Writes ``report.html``, ``report.md``, ``results.csv``, ``curves.csv``, ``comparisons.csv`` and ``pictures/``.

    Returns:
        The page's path. Runs that failed or have not begun are named in it and leave the others as they are.

    Raises:
        StorageError: a file cannot be written.
    """
    runs = observe(folder, plan)
    comparisons = compare(plan, runs)
    page = build_page(plan, runs, comparisons)
    shown = Shown(plan, runs, comparisons)
    for picture in PICTURES:
        png = render(picture, shown, "png")
        if png is not None:
            atomic_write_bytes(folder.path / "pictures" / f"{picture.name}.png", png)
    atomic_write_text(folder.path / "results.csv", results_csv(runs))
    atomic_write_text(folder.path / "curves.csv", curves_csv(runs))
    atomic_write_text(folder.path / "comparisons.csv", comparisons_csv(plan, comparisons))
    atomic_write_text(folder.path / "report.md", markdown_report(page, folder))
    target = folder.path / "report.html"
    atomic_write_bytes(target, html(page).encode("utf-8", "replace"))
    return target


def build_page(plan: Plan, runs: Sequence[Observed], comparisons: Sequence[Comparison]) -> Page:
    """Everything the report says, as text, tables and pictures."""
    states = [run.standing.state for run in runs]
    datasets = dataset_table(plan, runs)
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return Page(
        name=plan.name,
        question=plan.question,
        state=f"{len(runs)} runs: {counted}",
        finished=all(run.standing.state in ("done", "diverged", "out of memory", "cannot run") for run in runs),
        sentences=tuple(comparison.sentence for comparison in comparisons),
        results=result_table(plan, runs, comparisons),
        datasets=datasets,
        costs=cost_table(plan, runs, comparisons),
        runs=run_table(runs),
        settings=settings_table(plan),
        figures=_figures(Shown(plan, runs, comparisons)),
        notes=tuple(_notes(plan, runs, comparisons, by_dataset=datasets is not None)),
    )


def html(page: Page) -> str:
    """The page as HTML: one file without scripts that fetches nothing; every text is escaped."""
    source = resources.files("zhgpt.ablate").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(page=page)


def markdown_report(page: Page, folder: AblationFolder) -> str:
    """The same in Markdown, with the pictures beside it."""
    lines = [f"# {page.name}", "", *([page.question, ""] if page.question else []), f"{page.state}.", ""]
    lines += [f"- {sentence}" for sentence in page.sentences]
    lines += ["", "## Results", "", markdown(page.results), ""]
    lines += ["## By dataset", "", markdown(page.datasets), ""] if page.datasets else []
    lines += ["## Cost", "", markdown(page.costs), ""]
    for picture in PICTURES:
        if (folder.path / "pictures" / f"{picture.name}.png").exists():
            lines += [f"![{picture.title}](pictures/{picture.name}.png)", "", picture.caption, ""]
    lines += ["## Variants", "", markdown(page.settings), "", "## Runs", "", markdown(page.runs), ""]
    lines += ["## How to read this", "", *(f"- {note}" for note in page.notes), ""]
    return "\n".join(lines)


def _figures(shown: Shown) -> tuple[Figure, ...]:
    figures = []
    for picture in PICTURES:
        svg = render(picture, shown, "svg")
        if svg is not None:
            source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
            figures.append(Figure(picture.title, picture.caption, picture.wide, source))
    return tuple(figures)


def _notes(plan: Plan, runs: Sequence[Observed], comparisons: Sequence[Comparison], *, by_dataset: bool) -> list[str]:
    """What a reader must know to read the numbers right, and what was not measured."""
    percent = f"{100 * plan.confidence:g} %"
    notes = [
        f"Held equal by the grid: {', '.join(plan.constraints) or 'nothing'}. Bits per byte are of the held-out split; less "
        "is better.",
        f"± is the half width of a {percent} interval by Student's t over the seeds. Differences are paired: variant minus "
        f"{plan.baseline} of the same seed, which has the same first weights where shapes agree and the same samples in the "
        "same order. Both of a pair are evaluated on the same held-out documents, so that a hard one counts against both. "
        + _note_on_documents(comparisons),
        f"Fewer than {FEWEST_SEEDS} pairs decide nothing. An interval within ±{plan.indifference:g} bits per byte is called the "
        "same; one that holds zero, or reaches out of that, is not decided.",
    ]
    notes += [_NOTE_ON_DATASETS] if by_dataset else []
    if len(comparisons) > 1:
        notes.append(
            f"{len(comparisons)} comparisons share one baseline and each interval stands for itself: of twenty variants that "
            "change nothing, one would look decided. Confirm a small difference with new seeds."
        )
    if any(
        plan.time in comparison.differences and comparison.differences[plan.time].read_early
        for comparison in comparisons
    ):
        notes.append(
            f"At {BASES[plan.time]} each pair is read where the faster run ended. The slower one is then in the middle of its "
            "schedule, its learning rate still high, which counts against it; constraints: [equal_wall_clock] gives each "
            "variant a schedule of its own that ends in time."
        )
    hosts = sorted({host for run in runs for host in run.hosts})
    notes.append(
        "Training time is measured without starting, evaluating and saving"
        + (
            f", on {len(hosts)} hosts ({', '.join(hosts)}): times compare as far as these are alike"
            if len(hosts) > 1
            else ""
        )
        + ". Runs that shared a host with other work at the time are slower for it."
    )
    notes += _notes_on_measuring({name for run in runs for name in run.numbers})
    return notes


def _note_on_documents(comparisons: Sequence[Comparison]) -> str:
    widths = [difference.over_documents for each in comparisons for difference in each.differences.values()]
    known = [width for width in widths if width is not None]
    if not known:
        return "The interval is over seeds; how much the choice of documents matters is not in it."
    rest = "" if len(known) == len(widths) else ", where every run of a pair recorded their costs"
    return (
        "How much the choice of documents matters is in the interval, too, as measured over the documents at the end of the "
        f"runs (by itself ± {min(known):.4f} to {max(known):.4f}){rest}."
    )


def _notes_on_measuring(measured: set[str]) -> list[str]:
    missing = [
        text
        for name, text in (
            ("mfu", "MFU (no peak is known for this device; log.peak_tflops sets it)"),
            (
                "communication",
                'communication share ("comms_logger": {"enabled": true, "prof_all": true} in the DeepSpeed JSON)',
            ),
            ("forward_time", 'forward, backward and update times ("wall_clock_breakdown": true in the DeepSpeed JSON)'),
        )
        if name not in measured
    ]
    notes = []
    if "mfu" in measured:
        notes.append(
            "MFU: on a CPU each run measures the peak that it is compared with, so it scatters more than the speed does."
        )
    if missing:
        notes.append(f"Not measured in these runs: {'; '.join(missing)}.")
    return notes
