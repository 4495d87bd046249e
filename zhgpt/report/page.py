"""From a recorded run to the words and tables of its page; the template only lays them out."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zhgpt.config.quantities import rate_text, share_text
from zhgpt.evaluate.learning_verdict import Facts, Floor, Verdict, judge
from zhgpt.health.detector import Finding
from zhgpt.health.history import facts_of
from zhgpt.health.watch import Watch
from zhgpt.report.drawing import Curves
from zhgpt.report.expected import expected_of
from zhgpt.report.health_plots import HEALTH_PLOTS
from zhgpt.report.key_numbers import Number, key_numbers, planned_tokens_per_parameter
from zhgpt.report.plots import PLOTS, render_svg
from zhgpt.report.recorded_run import Evaluation, RecordedRun, look_up, number_at
from zhgpt.report.routing_plots import ROUTING_PLOTS

# Evaluations that are shown of a table, and of a prompt's samples: the first, the last, and some between, evenly.
_SHOWN_ROWS = 40
_SHOWN_CONTINUATIONS = 6
_DIVERGED = 3
_STARTED = "started"

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """One plot as a data URI."""

    title: str
    caption: str
    wide: bool
    source: str


@dataclass(frozen=True)
class Continuation:
    """What the model wrote after a prompt at one evaluation."""

    step: int
    text: str
    statistics: tuple[str, ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt and how its continuation changed over the run."""

    text: str
    continuations: list[Continuation]
    evaluations: int


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    name: str
    state: str
    reason: str
    verdict: Verdict
    findings: list[Finding]
    warnings: list[str]
    numbers: list[Number]
    pictures: list[Picture]
    evaluation_rows: list[list[str]]
    evaluations: int
    prompts: list[Prompt]
    events: list[tuple[str, str, str]]
    config_text: str
    deepspeed_text: str
    environment: list[tuple[str, str]]
    notes: list[str]
    folder: str


EVALUATION_COLUMNS = (
    "step",
    "held-out loss (nats/token)",
    "perplexity",
    "bits per byte",
    "below the unigram line (bits/byte)",
    "training loss (nats/token)",
)
SAMPLE_STATISTICS: tuple[tuple[str, str], ...] = (
    ("distinct_1", "distinct-1"),
    ("distinct_2", "distinct-2"),
    ("distinct_3", "distinct-3"),
    ("repeated_4gram_share", "repeated 4-grams"),
    ("punctuation_share", "punctuation"),
)


def build_page(run: RecordedRun) -> Page:
    """Everything the report says about a run, as text, tables and pictures."""
    floor = floor_of(run)
    warnings = look_up(run.environment, "warnings")
    evaluated = [record for record in run.records if number_at(record, "valid_loss") is not None]
    return Page(
        name=run.name,
        state=run.state.kind,
        reason=run.state.reason,
        verdict=judge_run(run),
        findings=findings_in(run),
        warnings=[str(warning) for warning in warnings] if isinstance(warnings, list) else [],
        numbers=key_numbers(run, floor),
        pictures=_pictures(curves_of(run)),
        evaluation_rows=[_evaluation_row(record, floor) for record in _spread(evaluated, _SHOWN_ROWS)],
        evaluations=len(evaluated),
        prompts=_prompts(run.evaluations),
        events=[_event(event) for event in run.events],
        config_text=run.config_text,
        deepspeed_text=run.deepspeed_text,
        environment=_flat(run.environment),
        notes=run.notes,
        folder=str(run.folder),
    )


def judge_run(run: RecordedRun) -> Verdict:
    """The verdict on a recorded run."""
    facts = Facts(
        tokens_per_parameter=planned_tokens_per_parameter(run),
        failure=run.state.reason if run.state.exit_code == _DIVERGED else None,
        samples=run.evaluations[-1].samples if run.evaluations else (),
        is_range_test=facts_of(run.environment).is_range_test,
    )
    return judge(run.records, floor_of(run), facts)


def findings_in(run: RecordedRun) -> list[Finding]:
    """What the detectors find in a recorded run."""
    return Watch.over(facts_of(run.environment), run.records).findings


def floor_of(run: RecordedRun) -> Floor:
    """The dataset's unigram and bigram lines, as the run recorded them."""
    return Floor(
        unigram_loss=number_at(run.environment, "floor.unigram_loss"),
        bigram_loss=number_at(run.environment, "floor.bigram_loss"),
        unigram_bits_per_byte=number_at(run.environment, "floor.unigram_bits_per_byte"),
        bigram_bits_per_byte=number_at(run.environment, "floor.bigram_bits_per_byte"),
    )


def curves_of(run: RecordedRun) -> Curves:
    """What the plots are drawn from."""
    starts = [number_at(event, "step") for event in run.events if event.get("event") == _STARTED]
    resumed = [int(step) for step in starts if step]
    return Curves(run.records, floor_of(run), resumed, run.routing, findings_in(run), expected_of(run))


def _pictures(curves: Curves) -> list[Picture]:
    pictures = []
    for plot in (*PLOTS, *HEALTH_PLOTS, *ROUTING_PLOTS):
        svg = render_svg(plot, curves)
        if svg is not None:
            source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
            pictures.append(Picture(plot.title, plot.caption, plot.wide, source))
    return pictures


def _evaluation_row(record: Mapping[str, Any], floor: Floor) -> list[str]:
    bits = number_at(record, "valid_bits_per_byte")
    line = floor.unigram_bits_per_byte
    below = line - bits if line is not None and bits is not None else None
    return [
        f"{record['step']:,}",
        _cell(number_at(record, "valid_loss"), ".4f"),
        _cell(number_at(record, "valid_perplexity"), ",.1f"),
        _cell(bits, ".4f"),
        _cell(below, "+.4f"),
        _cell(number_at(record, "loss"), ".4f"),
    ]


def _cell(value: float | None, shape: str) -> str:
    return "–" if value is None else format(value, shape)


def _prompts(evaluations: Sequence[Evaluation]) -> list[Prompt]:
    by_prompt: dict[str, list[Continuation]] = {}
    for evaluation in evaluations:
        for sample in evaluation.samples:
            by_prompt.setdefault(str(sample.get("prompt", "")), []).append(_continuation(evaluation.step, sample))
    return [Prompt(text, _spread(found, _SHOWN_CONTINUATIONS)[::-1], len(found)) for text, found in by_prompt.items()]


def _continuation(step: int, sample: Mapping[str, Any]) -> Continuation:
    statistics = []
    for name, label in SAMPLE_STATISTICS:
        value = number_at(sample, name)
        if value is not None:
            shown = share_text(value) if name.endswith("_share") else f"{value:.2f}"
            statistics.append(f"{label} {shown}")
    return Continuation(step, str(sample.get("text", "")), tuple(statistics))


def _spread(found: list[T], most: int) -> list[T]:
    if len(found) <= most:
        return found
    last = len(found) - 1
    return [found[round(last * place / (most - 1))] for place in range(most)]


def _event(event: Mapping[str, Any]) -> tuple[str, str, str]:
    details = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("at", "event"))
    return str(event.get("at", "")), str(event.get("event", "")), details


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, value) rows; warnings have a place of their own."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name == "warnings":
            continue
        if isinstance(value, Mapping):
            rows.extend(_flat(value, f"{name}."))
        elif isinstance(value, list):
            rows.append((name, ", ".join(str(item) for item in value) or "–"))
        elif isinstance(value, float) and 0 < abs(value) < 1e-3:
            rows.append((name, rate_text(value)))
        else:
            rows.append((name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)))
    return rows
