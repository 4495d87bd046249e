"""The numbers that stand at the top of the report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from zhgpt.config.quantities import count_text, duration_text, loss_text, share_text
from zhgpt.evaluate.learning_verdict import Floor, series
from zhgpt.report.recorded_run import RecordedRun, look_up, number_at


@dataclass(frozen=True)
class Number:
    """One key number with its unit or what it is to be compared with."""

    name: str
    value: str
    note: str = ""


def key_numbers(run: RecordedRun, floor: Floor) -> list[Number]:
    """How far the run is, what it costs a token, how fast it is and how large; what is not recorded is left out."""
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
        ratio = planned_tokens_per_parameter(run)
        numbers.append(
            Number("parameters", count_text(parameters), f"{ratio:.3g} tokens each planned" if ratio else "")
        )
    world_size = number_at(run.environment, "world_size")
    if world_size:
        device = look_up(run.environment, "device")
        numbers.append(Number("ranks", f"{world_size:.0f}", str(device) if device else ""))
    return numbers


def planned_tokens_per_parameter(run: RecordedRun) -> float | None:
    """Tokens of the whole plan divided by all parameters; ``None`` where either is not recorded."""
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
