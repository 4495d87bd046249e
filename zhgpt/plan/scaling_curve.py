"""Bits per byte to expect of a model of some size after some tokens: a published shape, its level from our own runs.

E + scale (A / parameters^a + B / tokens^b), with A, B, a and b as Hoffmann et al. 2022 fitted them (arXiv 2203.15556,
approach 3); E and the scale, both at least 0, are fitted to the runs in scaling_runs.json. Few small runs cannot tell how
much is owed to parameters and how much to tokens, so that proportion is taken from those who had four hundred.

Tokens that are read again count less and less, as Muennighoff et al. 2023 (arXiv 2305.16264) found: R repeats of U tokens
are worth U (1 + 15.4 (1 - exp(-R / 15.4))).

Another text costs more or less at any size: the curve is taken to it by the ratio of the two unigram lines. How far that was
off at runs that were trained on other texts is in scaling_runs.json too, and is the band there: two texts so far.

Beyond ten times the runs' parameters or tokens the number is an extrapolation and says so, with a band: what other readings
of the same runs give there, and Hoffmann's own loss, in nats a token, taken over without a run of ours.

``python -m zhgpt.plan.scaling_curve`` fits anew, leaving the largest run out, and prints its error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RUNS = Path(__file__).parent / "scaling_runs.json"


@dataclass(frozen=True, slots=True)
class Shape:
    """What parameters and tokens are worth to each other: A / parameters^a + B / tokens^b."""

    size: float
    size_exponent: float
    data: float
    data_exponent: float

    def at(self, parameters: float, tokens: float) -> float:
        """The sum, before it is scaled."""
        return self.size / parameters**self.size_exponent + self.data / tokens**self.data_exponent


HOFFMANN = Shape(406.4, 0.34, 410.7, 0.28)
OTHER_SHAPES = (
    Shape(482.01, 0.3478, 2085.43, 0.3658),  # Besiroglu et al. 2024 (arXiv 2404.10102), from the same data
    Shape(0.0, 0.34, 410.7, 0.28),  # as if only tokens counted
    Shape(0.0, 0.3478, 2085.43, 0.3658),
)
HOFFMANN_FLOOR = 1.69
"""Nats a token that no model gets below, in the same fit: it ties the floor to the rest of the shape."""
BYTES_PER_TOKEN = 4.5
"""Of Chinese UTF-8 text at a vocabulary of 32,000, where no dataset says it: an assumption (at 8,192 ids 4.1 to 4.8 were
measured). It turns Hoffmann's nats a token into bits per byte, too."""
REPEATS_WORTH = 15.4
"""Muennighoff et al. 2023: the number of repeats at which another one is worth a third of the first."""
FED_TOKENS_PER_PARAMETER = 20.0
EXCESS_WORTH = 5.3
"""Muennighoff et al. 2023, the same of parameters: as multiples of those that the new tokens feed, 20 a parameter."""
FAR = 10.0
"""Beyond this factor in parameters or tokens a number is an extrapolation."""
SAME_TEXT = 0.05
"""A unigram line within this share of the runs' is taken for that of their text, or of one like it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished training.

    Attributes:
        name: of the run.
        parameters: all of the model, a tied table once.
        tokens: trained on, each new.
        bits_per_byte: on held-out text, at the end.
    """

    name: str
    parameters: int
    tokens: int
    bits_per_byte: float


@dataclass(frozen=True, slots=True)
class OtherRun:
    """One finished training on another text than that of the runs.

    Attributes:
        run: as it was.
        unique_tokens: of its text; where it trained on more, it read some again.
        unigram_bits_per_byte: its text's unigram line.
    """

    run: Run
    unique_tokens: int
    unigram_bits_per_byte: float

    @property
    def error(self) -> float:
        """By which share of its bits per byte the curve, taken to its text, is off."""
        worth = worth_of(self.run.tokens, self.unique_tokens)
        taken_to = self.unigram_bits_per_byte / unigram_of_the_runs()
        return taken_to * committed_curves()[0].at(self.run.parameters, worth) / self.run.bits_per_byte - 1


@dataclass(frozen=True, slots=True)
class Curve:
    """floor + scale x shape."""

    floor: float
    scale: float
    shape: Shape

    def at(self, parameters: float, tokens: float) -> float:
        """Bits per byte."""
        return self.floor + self.scale * self.shape.at(parameters, tokens)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Bits per byte to expect, with its band.

    Attributes:
        bits_per_byte: of the curve.
        low, high: of the band.
        extrapolated: how far beyond the runs, as a factor; None within ten times of them.
        unigram_ratio: of this text's unigram line to that of the runs' text, which is in the numbers; None: not known, and the
            numbers are for text like that of the runs.
    """

    bits_per_byte: float
    low: float
    high: float
    extrapolated: float | None
    unigram_ratio: float | None = None

    @property
    def is_on_other_text(self) -> bool:
        """Whether the unigram line says that the text is not like that of the runs."""
        return _is_other_text(self.unigram_ratio)


def load_runs(path: Path = RUNS) -> list[Run]:
    """The runs as they are committed."""
    return [_run_of(row) for row in json.loads(path.read_text(encoding="utf-8"))["runs"]]


def _run_of(row: dict[str, Any]) -> Run:
    return Run(row["name"], row["parameters"], row["tokens"], row["bits_per_byte"])


def load_other_runs(path: Path = RUNS) -> list[OtherRun]:
    """Our finished runs on other texts; no curve is fitted to them."""
    rows = json.loads(path.read_text(encoding="utf-8"))["other_texts"]
    return [OtherRun(_run_of(row), row["unique_tokens"], row["unigram_bits_per_byte"]) for row in rows]


@cache
def miss_on_other_texts() -> float:
    """The largest factor, at least 1, between the curve and the end of a run on another text, in either direction."""
    return max(max(1 + other.error, 1 / (1 + other.error)) for other in load_other_runs())


def unigram_of_the_runs(path: Path = RUNS) -> float:
    """Bits per byte of the unigram line of the text that the runs were trained on."""
    return float(json.loads(path.read_text(encoding="utf-8"))["unigram_bits_per_byte"])


def largest(runs: Sequence[Run]) -> Run:
    """The run with the most compute (parameters x tokens): left out of the fit, to test it."""
    return max(runs, key=lambda run: run.parameters * run.tokens)


def fit_curve(runs: Sequence[Run], shape: Shape = HOFFMANN) -> Curve:
    """Least squares for floor and scale, neither below 0: a straight line through (shape, bits per byte)."""
    xs = [shape.at(run.parameters, run.tokens) for run in runs]
    ys = [run.bits_per_byte for run in runs]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    if slope < 0:
        return Curve(y_mean, 0.0, shape)
    floor = y_mean - slope * x_mean
    if floor < 0:
        return Curve(0.0, sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs), shape)
    return Curve(floor, slope, shape)


def tied_curve(runs: Sequence[Run]) -> Curve:
    """Least squares for the scale alone, with Hoffmann's floor at the same scale."""
    xs = [HOFFMANN_FLOOR + HOFFMANN.at(run.parameters, run.tokens) for run in runs]
    scale = sum(x * run.bits_per_byte for x, run in zip(xs, runs, strict=True)) / sum(x * x for x in xs)
    return Curve(scale * HOFFMANN_FLOOR, scale, HOFFMANN)


@cache
def committed_curves() -> tuple[Curve, tuple[Curve, ...], float, int, int]:
    """The curve, those of other shapes, its largest error, and the runs' most parameters and tokens."""
    runs = load_runs()
    fitted = [run for run in runs if run is not largest(runs)]
    curve = fit_curve(fitted)
    error = max(abs(curve.at(run.parameters, run.tokens) / run.bits_per_byte - 1) for run in runs)
    shapes = [fit_curve(fitted, shape) for shape in OTHER_SHAPES]
    bits = 1 / (math.log(2) * BYTES_PER_TOKEN)
    others = (*shapes, tied_curve(fitted), Curve(HOFFMANN_FLOOR * bits, bits, HOFFMANN))
    return curve, others, error, max(run.parameters for run in runs), max(run.tokens for run in runs)


@cache
def error_on_left_out() -> tuple[Run, float]:
    """The run that the fit has not seen, and by which share of its bits per byte the curve is off there."""
    aside = largest(load_runs())
    return aside, committed_curves()[0].at(aside.parameters, aside.tokens) / aside.bits_per_byte - 1


def worth_of(tokens: float, unique_tokens: float | None) -> float:
    """New tokens that are worth as much as ``tokens`` read from ``unique_tokens``."""
    if unique_tokens is None or tokens <= unique_tokens:
        return tokens
    repeats = tokens / unique_tokens - 1
    return unique_tokens * (1 + REPEATS_WORTH * (1 - math.exp(-repeats / REPEATS_WORTH)))


def worth_of_parameters(parameters: float, unique_tokens: float | None) -> float:
    """Parameters, of a model fed with enough new text, that are worth as much as these on so little of it."""
    if unique_tokens is None or parameters <= unique_tokens / FED_TOKENS_PER_PARAMETER:
        return parameters
    fed = unique_tokens / FED_TOKENS_PER_PARAMETER
    return fed * (1 + EXCESS_WORTH * (1 - math.exp(-(parameters / fed - 1) / EXCESS_WORTH)))


def with_little_text(parameters: float, tokens: float, unique_tokens: float | None) -> float:
    """Bits per byte of the curve where not only repeated tokens count less, but also parameters that the text does not feed.

    Only to compare models on the same text: the runs that floor and scale are fitted to count in full.
    """
    worth = worth_of_parameters(parameters, unique_tokens), worth_of(tokens, unique_tokens)
    return committed_curves()[0].at(*worth)


def _is_other_text(unigram_ratio: float | None) -> bool:
    return unigram_ratio is not None and abs(unigram_ratio - 1) > SAME_TEXT


def expect(
    parameters: float, tokens: float, unique_tokens: float | None = None, unigram_bits_per_byte: float | None = None
) -> Expectation:
    """Bits per byte to expect.

    Args:
        parameters: of the model; of a mixture those a token passes.
        tokens: that it trains on.
        unique_tokens: of the text; None: as many as are trained on.
        unigram_bits_per_byte: the text's unigram line; None: not known, and text like that of the runs is taken.
    """
    curve, others, error, most_parameters, most_tokens = committed_curves()
    worth = worth_of(tokens, unique_tokens)
    value = curve.at(parameters, worth)
    factor = max(parameters / most_parameters, tokens / most_tokens)
    values = [value] if factor <= FAR else [value, *(other.at(parameters, worth) for other in others)]
    low, high = min(values) * (1 - error), max(values) * (1 + error)
    ratio = None if unigram_bits_per_byte is None else unigram_bits_per_byte / unigram_of_the_runs()
    if _is_other_text(ratio):
        low, high = min(low, value / miss_on_other_texts()), max(high, value * miss_on_other_texts())
    taken_to = ratio or 1.0
    return Expectation(taken_to * value, taken_to * low, taken_to * high, factor if factor > FAR else None, ratio)


def main() -> None:
    """Print the fit, each run's error, and that of the largest, which the fit has not seen."""
    runs = load_runs()
    aside = largest(runs)
    curve = fit_curve([run for run in runs if run is not aside])
    shape = curve.shape
    print(
        f"bits per byte = {curve.floor:.4f} + {curve.scale:.4f} ({shape.size} / parameters^{shape.size_exponent} + "
        f"{shape.data} / tokens^{shape.data_exponent})\n"
    )
    print("| Run | Parameters | Tokens | Bits per byte | Curve | Error |")
    print("|---|---:|---:|---:|---:|---:|")
    for run in runs:
        value = curve.at(run.parameters, run.tokens)
        note = " (left out of the fit)" if run is aside else ""
        print(
            f"| {run.name}{note} | {run.parameters:,} | {run.tokens:,} | {run.bits_per_byte:.4f} | {value:.4f} | "
            f"{100 * (value / run.bits_per_byte - 1):+.1f} % |"
        )
    for other in load_other_runs():
        run, value = other.run, other.run.bits_per_byte * (1 + other.error)
        print(
            f"| {run.name} (other text) | {run.parameters:,} | {run.tokens:,} | {run.bits_per_byte:.4f} | {value:.4f} | "
            f"{100 * other.error:+.1f} % |"
        )


if __name__ == "__main__":
    main()
