"""From a recorded run to the words and tables of its page; the template only lays them out."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from zhgpt.report.plots import PLOTS, Curves, render_svg
from zhgpt.report.recorded_run import Evaluation, RecordedRun, look_up, number_at
from zhgpt.report.verdict import Facts, Floor, Verdict, judge, series
from zhgpt.train.quantities import count_text, duration_text, loss_text, rate_text, share_text

# Evaluations whose samples are shown for a prompt: the first, the last, and some between at even distances.
_SHOWN_EVALUATIONS = 6
_DIVERGED = 3
_STARTED = "started"


@dataclass(frozen=True)
class Number:
    """One key number with its unit or what it is to be compared with."""

    name: str
    value: str
    note: str = ""


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
    warnings: list[str]
    numbers: list[Number]
    pictures: list[Picture]
    evaluations: list[list[str]]
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
    return Page(
        name=run.name,
        state=run.state.kind,
        reason=run.state.reason,
        verdict=judge_run(run),
        warnings=[str(warning) for warning in warnings] if isinstance(warnings, list) else [],
        numbers=_numbers(run, floor),
        pictures=_pictures(curves_of(run)),
        evaluations=_evaluation_rows(run.records, floor),
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
        tokens_per_parameter=_tokens_per_parameter(run),
        failure=run.state.reason if run.state.exit_code == _DIVERGED else None,
        samples=run.evaluations[-1].samples if run.evaluations else (),
    )
    return judge(run.records, floor_of(run), facts)


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
    return Curves(run.records, floor_of(run), [int(step) for step in starts if step])


def _numbers(run: RecordedRun, floor: Floor) -> list[Number]:
    return [*_progress_numbers(run), *_loss_numbers(run, floor), *_speed_numbers(run), *_size_numbers(run)]


def _progress_numbers(run: RecordedRun) -> list[Number]:
    steps = number_at(run.environment, "batch_plan.steps") or number_at(run.config, "train.steps")
    done = run.records[-1]["step"] if run.records else 0
    numbers = [Number("steps", f"{done:,}", f"of {steps:,.0f}" if steps else "")]
    consumed = [tokens for _, tokens in series(run.records, "consumed_tokens")]
    if consumed:
        train = number_at(run.environment, "dataset.splits.train.tokens")
        note = f"{consumed[-1] / train:.2f} epochs" if train else ""
        numbers.append(Number("tokens", count_text(consumed[-1]), note))
    elapsed = _elapsed_seconds(run.records)
    if elapsed is not None:
        left = number_at(run.records[-1], "eta_seconds") if run.state.kind == "running" else None
        numbers.append(Number("time", duration_text(elapsed), f"{duration_text(left)} left" if left else ""))
    if run.checkpoints:
        others = len(run.checkpoints) - 1
        note = f"and {others} older" if others else "the only one"
        numbers.append(Number("newest checkpoint", f"step {run.checkpoints[-1]:,}", note))
    return numbers


def _loss_numbers(run: RecordedRun, floor: Floor) -> list[Number]:
    numbers = []
    for name, label in (("loss", "training loss"), ("valid_loss", "held-out loss")):
        points = series(run.records, name)
        if points:
            numbers.append(Number(label, loss_text(points[-1][1]), "nats/token"))
    bits = series(run.records, "valid_bits_per_byte") or series(run.records, "bits_per_byte")
    if bits:
        line = floor.unigram_bits_per_byte
        numbers.append(Number("bits per byte", loss_text(bits[-1][1]), f"unigram line {line:.4f}" if line else ""))
    return numbers


def _speed_numbers(run: RecordedRun) -> list[Number]:
    rates = [rate for _, rate in series(run.records, "tokens_per_second") if math.isfinite(rate)]
    if not rates:
        return []
    shares = [share for _, share in series(run.records, "mfu") if math.isfinite(share)]
    note = f"MFU {share_text(median(shares))}" if shares else "MFU not known"
    return [Number("tokens/s (median)", count_text(median(rates)), note)]


def _size_numbers(run: RecordedRun) -> list[Number]:
    numbers = []
    parameters = number_at(run.environment, "parameters.total")
    if parameters:
        ratio = _tokens_per_parameter(run)
        numbers.append(
            Number("parameters", count_text(parameters), f"{ratio:.3g} tokens each planned" if ratio else "")
        )
    world_size = number_at(run.environment, "world_size")
    if world_size:
        device = look_up(run.environment, "device")
        numbers.append(Number("ranks", f"{world_size:.0f}", str(device) if device else ""))
    return numbers


def _tokens_per_parameter(run: RecordedRun) -> float | None:
    tokens = number_at(run.environment, "batch_plan.total_tokens")
    parameters = number_at(run.environment, "parameters.total")
    return tokens / parameters if tokens and parameters else None


def _elapsed_seconds(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds over all starts of the run: each start counts from 0 again."""
    times = [seconds for _, seconds in series(records, "elapsed_seconds") if math.isfinite(seconds)]
    if not times:
        return None
    ends = [before for before, after in pairwise(times) if after < before]
    return sum(ends) + times[-1]


def _pictures(curves: Curves) -> list[Picture]:
    pictures = []
    for plot in PLOTS:
        svg = render_svg(plot, curves)
        if svg is not None:
            source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
            pictures.append(Picture(plot.title, plot.caption, plot.wide, source))
    return pictures


def _evaluation_rows(records: Sequence[Mapping[str, Any]], floor: Floor) -> list[list[str]]:
    rows = []
    for record in records:
        if number_at(record, "valid_loss") is None:
            continue
        bits = number_at(record, "valid_bits_per_byte")
        line = floor.unigram_bits_per_byte
        below = line - bits if line is not None and bits is not None else None
        rows.append(
            [
                f"{record['step']:,}",
                _cell(number_at(record, "valid_loss"), ".4f"),
                _cell(number_at(record, "valid_perplexity"), ",.1f"),
                _cell(bits, ".4f"),
                _cell(below, "+.4f"),
                _cell(number_at(record, "loss"), ".4f"),
            ]
        )
    return rows


def _cell(value: float | None, shape: str) -> str:
    return "–" if value is None else format(value, shape)


def _prompts(evaluations: Sequence[Evaluation]) -> list[Prompt]:
    by_prompt: dict[str, list[Continuation]] = {}
    for evaluation in evaluations:
        for sample in evaluation.samples:
            by_prompt.setdefault(str(sample.get("prompt", "")), []).append(_continuation(evaluation.step, sample))
    return [Prompt(text, _spread(found)[::-1], len(found)) for text, found in by_prompt.items()]


def _continuation(step: int, sample: Mapping[str, Any]) -> Continuation:
    statistics = []
    for name, label in SAMPLE_STATISTICS:
        value = number_at(sample, name)
        if value is not None:
            shown = share_text(value) if name.endswith("_share") else f"{value:.2f}"
            statistics.append(f"{label} {shown}")
    return Continuation(step, str(sample.get("text", "")), tuple(statistics))


def _spread(found: list[Continuation]) -> list[Continuation]:
    if len(found) <= _SHOWN_EVALUATIONS:
        return found
    last = len(found) - 1
    return [found[round(last * place / (_SHOWN_EVALUATIONS - 1))] for place in range(_SHOWN_EVALUATIONS)]


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
