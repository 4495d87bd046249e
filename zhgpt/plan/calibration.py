"""The constants of the step-time model: fitted to published throughputs, each row predicted without itself, too.

``python -m zhgpt.plan.calibration`` fits anew, prints every row's error, and with ``--write`` replaces constants.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_json
from zhgpt.config.schema import ModelSection
from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.layout import Layout
from zhgpt.plan.step_time import Constants, predict_step

HERE = Path(__file__).parent
POINTS, CONSTANTS = HERE / "calibration_points.json", HERE / "constants.json"
STARTING_POINT = Constants(matmul=0.8, narrow=150.0, traffic=3.0, launch_seconds=1e-4, overlap=0.5, link=0.6)
LOWER = Constants(matmul=0.3, narrow=1.0, traffic=0.5, launch_seconds=1e-6, overlap=0.05, link=0.1)
UPPER = Constants(matmul=1.0, narrow=1500.0, traffic=12.0, launch_seconds=2e-3, overlap=1.0, link=0.95)
PRIOR_WEIGHT = 0.02
"""How strongly each constant is held near its starting point, in relative error a doubling: rows that say nothing about a
constant leave it there instead of sending it to a bound."""


@dataclass(frozen=True, slots=True)
class Point:
    """One published throughput.

    Attributes:
        name: of the model there.
        source: who published it.
        gpu, gpus, gpus_per_node: on what.
        layers, hidden_size, heads, vocab_size: the model, GPT-2's architecture with a tied head.
        sequence_length, micro_batch_size: of a micro-step.
        accumulation: micro-steps a step.
        stage: of ZeRO, or what it amounts to (fully sharded is 3).
        tokens_per_second_per_gpu: measured.
        assumed: what the source does not say and was filled in here.
    """

    name: str
    source: str
    gpu: str
    gpus: int
    gpus_per_node: int
    layers: int
    hidden_size: int
    heads: int
    vocab_size: int
    sequence_length: int
    micro_batch_size: int
    accumulation: int
    stage: int
    tokens_per_second_per_gpu: float
    assumed: str = ""

    @property
    def label(self) -> str:
        """One line that names the row."""
        return f"{self.name}, {self.sequence_length} tokens, {self.gpus} x {self.gpu}"


@dataclass(frozen=True, slots=True)
class RowError:
    """A row, what is predicted from all rows, and from all others."""

    point: Point
    fitted: float
    left_out: float

    @property
    def error(self) -> float:
        """Relative, of the prediction made without this row."""
        return self.left_out / self.point.tokens_per_second_per_gpu - 1


def load_points(path: Path = POINTS) -> list[Point]:
    """The published rows."""
    return [Point(**row) for row in json.loads(path.read_text(encoding="utf-8"))["points"]]


def load_constants(path: Path = CONSTANTS) -> Constants:
    """The fitted constants as they are committed."""
    return Constants(**json.loads(path.read_text(encoding="utf-8"))["constants"])


@cache
def model_of(point: Point) -> ModelSection:
    """The resolved model of a row."""
    return ModelSection(
        model_type="gpt2",
        vocab_size=point.vocab_size,
        hidden_size=point.hidden_size,
        num_hidden_layers=point.layers,
        num_attention_heads=point.heads,
        num_key_value_heads=point.heads,
        head_dim=point.hidden_size // point.heads,
        intermediate_size=4 * point.hidden_size,
        max_position_embeddings=point.sequence_length,
    )


def predicted_rate(point: Point, constants: Constants) -> float:
    """Tokens a second and GPU that the model gives for a row."""
    nodes = point.gpus // point.gpus_per_node
    cluster = Cluster(GPUS[point.gpu], nodes, point.gpus_per_node, "infiniband-1600")
    layout = Layout(point.stage, "bf16", point.gpus, accumulation=point.accumulation, zero={"overlap_comm": True})
    step = predict_step(model_of(point), layout, cluster, point.micro_batch_size, point.sequence_length, constants)
    return point.accumulation * point.micro_batch_size * point.sequence_length / step.total


def fit(points: Sequence[Point], rounds: int = 40) -> Constants:
    """Least squares of the logarithmic errors by damped Gauss-Newton steps in the constants' logarithms."""
    import numpy as np

    low, high = (np.log([getattr(bound, field.name) for field in fields(Constants)]) for bound in (LOWER, UPPER))
    start = np.log([getattr(STARTING_POINT, field.name) for field in fields(Constants)])

    def residuals(logs: Any) -> Any:
        constants = Constants(*(float(value) for value in np.exp(logs)))
        errors = [np.log(predicted_rate(point, constants) / point.tokens_per_second_per_gpu) for point in points]
        return np.concatenate([errors, PRIOR_WEIGHT / np.log(2) * (logs - start)])

    logs, damping = start.copy(), 1e-2
    current = residuals(logs)
    for _ in range(rounds):
        slopes = np.stack([(residuals(logs + bump) - current) / 1e-4 for bump in 1e-4 * np.eye(len(logs))], axis=1)
        normal = slopes.T @ slopes
        wanted = logs - np.linalg.solve(normal + damping * np.eye(len(logs)), slopes.T @ current)
        wanted = np.clip(wanted, low, high)
        after = residuals(wanted)
        if after @ after < current @ current:
            logs, current, damping = wanted, after, max(damping / 3, 1e-6)
        else:
            damping *= 4
    return Constants(*(float(value) for value in np.exp(logs)))


def leave_one_out(points: Sequence[Point]) -> list[RowError]:
    """Each row's rate from constants fitted to all rows, and from constants that have never seen it."""
    whole = fit(points)
    return [
        RowError(
            point,
            predicted_rate(point, whole),
            predicted_rate(point, fit([other for other in points if other is not point])),
        )
        for point in points
    ]


def error_table(rows: Sequence[RowError]) -> str:
    """The rows as a Markdown table, with the median at its foot."""
    lines = [
        "| Row | Source | Measured, tokens/s/GPU | Predicted without it | Error |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row.point.label} | {row.point.source} | {row.point.tokens_per_second_per_gpu:,.0f} | {row.left_out:,.0f} | "
        f"{100 * row.error:+.1f} % |"
        for row in rows
    ]
    lines.append(f"| **Median of the absolute errors** | | | | {100 * median_error(rows):.1f} % |")
    return "\n".join(lines)


def median_error(rows: Sequence[RowError]) -> float:
    """Median of the absolute relative errors."""
    from statistics import median

    return median(abs(row.error) for row in rows)


def main(argv: Sequence[str]) -> None:
    """Fit, print the table, and write the constants where asked to."""
    points = load_points()
    constants = fit(points)
    print(error_table(leave_one_out(points)))
    print(json.dumps(asdict(constants), indent=1))
    if "--write" in argv:
        about = "fitted by python -m zhgpt.plan.calibration --write"
        atomic_write_json(CONSTANTS, {"about": about, "constants": asdict(constants)})


if __name__ == "__main__":
    main(sys.argv[1:])
