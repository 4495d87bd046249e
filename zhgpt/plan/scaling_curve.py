"""Bits per byte to expect of a model of some size after some tokens: a curve through our own runs, and its limits.

The form is Hoffmann et al. 2022's (arXiv 2203.15556, approach 3): E + A / parameters^a + B / tokens^b, with their exponents
a = 0.34 and b = 0.28. E, A and B are fitted to the runs in scaling_runs.json, none below 0. Tokens that are read again count
less and less, as Muennighoff et al. 2023 (arXiv 2305.16264) found: R repeats of U tokens are worth
U (1 + 15.4 (1 - exp(-R / 15.4))).

The runs are small. Beyond ten times their parameters or tokens the curve is an extrapolation and says so, with a band: what
other exponents, which fit the same runs nearly as well, give there.

``python -m zhgpt.plan.scaling_curve`` fits anew, leaving the largest run out, and prints its error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RUNS = Path(__file__).parent / "scaling_runs.json"
EXPONENTS = (0.34, 0.28)
OTHER_EXPONENTS = tuple((a, b) for a in (0.26, 0.34, 0.42) for b in (0.20, 0.28, 0.36))
"""Around Hoffmann's: a third of the way to Kaplan's and as far to the other side."""
REPEATS_WORTH = 15.4
"""Muennighoff et al. 2023: the number of repeats at which another one is worth a third of the first."""
FAR = 10.0
"""Beyond this factor in parameters or tokens a number is an extrapolation."""


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
class Curve:
    """E + A / parameters^a + B / tokens^b."""

    floor: float
    size: float
    data: float
    size_exponent: float
    data_exponent: float

    def at(self, parameters: float, tokens: float) -> float:
        """Bits per byte."""
        return self.floor + self.size / parameters**self.size_exponent + self.data / tokens**self.data_exponent


@dataclass(frozen=True, slots=True)
class Expectation:
    """Bits per byte to expect, with its band.

    Attributes:
        bits_per_byte: of the curve.
        low, high: of the band.
        extrapolated: how far beyond the runs, as a factor; None within ten times of them.
    """

    bits_per_byte: float
    low: float
    high: float
    extrapolated: float | None


def load_runs(path: Path = RUNS) -> list[Run]:
    """The runs as they are committed."""
    rows = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return [Run(row["name"], row["parameters"], row["tokens"], row["bits_per_byte"]) for row in rows]


def largest(runs: Sequence[Run]) -> Run:
    """The run with the most compute (parameters x tokens): left out of the fit, to test it."""
    return max(runs, key=lambda run: run.parameters * run.tokens)


def fit_curve(runs: Sequence[Run], exponents: tuple[float, float] = EXPONENTS) -> Curve:
    """Least squares for E, A and B, none below 0.

    The problem is linear once the exponents are fixed; where a coefficient would be negative it is held at 0 and the others
    are fitted again, over all seven choices, which for three unknowns is exact.
    """
    import numpy as np

    a, b = exponents
    columns = np.array([[1.0, run.parameters**-a, run.tokens**-b] for run in runs])
    target = np.array([run.bits_per_byte for run in runs])
    best: tuple[float, list[float]] | None = None
    for chosen in range(1, 8):
        picked = [index for index in range(3) if chosen >> index & 1]
        found = np.linalg.lstsq(columns[:, picked], target, rcond=None)[0]
        if (found < 0).any():
            continue
        error = float(np.square(columns[:, picked] @ found - target).sum())
        if best is None or error < best[0]:
            weights = [0.0, 0.0, 0.0]
            for index, value in zip(picked, found, strict=True):
                weights[index] = float(value)
            best = error, weights
    assert best is not None, "one column alone always has a positive coefficient"
    return Curve(*best[1], a, b)


@cache
def committed_curves() -> tuple[Curve, tuple[Curve, ...], float, int, int]:
    """The curve, those with other exponents, its largest error, and the runs' most parameters and tokens."""
    runs = load_runs()
    fitted = [run for run in runs if run is not largest(runs)]
    curve = fit_curve(fitted)
    error = max(abs(curve.at(run.parameters, run.tokens) / run.bits_per_byte - 1) for run in runs)
    others = tuple(fit_curve(fitted, exponents) for exponents in OTHER_EXPONENTS)
    return curve, others, error, max(run.parameters for run in runs), max(run.tokens for run in runs)


def worth_of(tokens: float, unique_tokens: float | None) -> float:
    """New tokens that are worth as much as ``tokens`` read from ``unique_tokens``."""
    if unique_tokens is None or tokens <= unique_tokens:
        return tokens
    repeats = tokens / unique_tokens - 1
    return unique_tokens * (1 + REPEATS_WORTH * (1 - math.exp(-repeats / REPEATS_WORTH)))


def expect(parameters: float, tokens: float, unique_tokens: float | None = None) -> Expectation:
    """Bits per byte to expect, on text like that of the runs.

    Args:
        parameters: of the model; of a mixture those a token passes.
        tokens: that it trains on.
        unique_tokens: of the text; None: as many as are trained on.
    """
    curve, others, error, most_parameters, most_tokens = committed_curves()
    worth = worth_of(tokens, unique_tokens)
    value = curve.at(parameters, worth)
    factor = max(parameters / most_parameters, tokens / most_tokens)
    if factor <= FAR:
        return Expectation(value, value * (1 - error), value * (1 + error), None)
    values = [other.at(parameters, worth) for other in others]
    return Expectation(value, min(*values, value) * (1 - error), max(*values, value) * (1 + error), factor)


def main() -> None:
    """Print the fit, each run's error, and that of the largest, which the fit has not seen."""
    runs = load_runs()
    aside = largest(runs)
    curve = fit_curve([run for run in runs if run is not aside])
    a, b = EXPONENTS
    print(f"bits per byte = {curve.floor:.4f} + {curve.size:.4g} / parameters^{a} + {curve.data:.4g} / tokens^{b}\n")
    print("| Run | Parameters | Tokens | Bits per byte | Curve | Error |")
    print("|---|---:|---:|---:|---:|---:|")
    for run in runs:
        value = curve.at(run.parameters, run.tokens)
        note = " (left out of the fit)" if run is aside else ""
        print(
            f"| {run.name}{note} | {run.parameters:,} | {run.tokens:,} | {run.bits_per_byte:.4f} | {value:.4f} | "
            f"{100 * (value / run.bits_per_byte - 1):+.1f} % |"
        )


if __name__ == "__main__":
    main()
