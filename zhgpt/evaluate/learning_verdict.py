"""Does it learn? One sentence from the numbers of a run, and what to do if the answer is no.

The measure is the unigram line: the loss of a model that knows how frequent each token is and nothing else. A run that
comes down to this line and stays there has learnt exactly that, however long it runs. The bigram line is the next one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Literal

Kind = Literal["learning", "stuck_at_unigram", "stuck_above_unigram", "diverged", "too_short", "no_floor", "range_test"]

# A loss within this share of the unigram line is "at" it: a model of frequencies that also follows a document's topic
# comes a few percent below, one that reads words comes far below.
_LINE_WIDTH = 0.05
# Falling means that the last quarter of the run is lower than the quarter before by this share.
_FALLING = 0.02
# Nats above the best (smoothed) loss from which on a run counts as diverged.
_RISE = 0.5
# Nats that the held-out loss must rise above its best to be called overfitting.
_OVERFITTING = 0.1
# Records that the loss is smoothed over at most.
_LONGEST_WINDOW = 51
# Records below which a curve has no shape.
_FEWEST_RECORDS = 8
# Below this rate a model that starts from noise hardly moves; such rates are for fine-tuning.
_FINE_TUNING_RATE = 1e-4
# Tokens a parameter; about 20 is usual (Hoffmann et al. 2022, arXiv:2203.15556).
_USUAL_TOKENS_PER_PARAMETER = 20
# Shares in text samples from which on the text is mostly repetition, or mostly punctuation; prose has under a fifth.
_REPEATED = 0.5
_PUNCTUATION = 0.5


@dataclass(frozen=True)
class Floor:
    """The lines to compare with, in nats per token and bits per byte; ``None`` where not measured."""

    unigram_loss: float | None = None
    bigram_loss: float | None = None
    unigram_bits_per_byte: float | None = None
    bigram_bits_per_byte: float | None = None


@dataclass(frozen=True)
class Facts:
    """What else is known about the run; each may be ``None``.

    Attributes:
        tokens_per_parameter: tokens of the whole plan divided by all parameters.
        failure: why the run ended as diverged (exit code 3), in its own words.
        samples: the newest text samples, as in ``samples/step-*.jsonl``.
        is_range_test: whether the learning rate is driven up until the loss diverges.
    """

    tokens_per_parameter: float | None = None
    failure: str | None = None
    samples: Sequence[Mapping[str, Any]] = ()
    is_range_test: bool = False


@dataclass(frozen=True)
class Verdict:
    """One sentence, what kind it is, what to do, and what else was noticed."""

    kind: Kind
    sentence: str
    advice: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Curve:
    """The finite training losses, smoothed, and the step each belongs to."""

    steps: list[int]
    losses: list[float]
    smooth: list[float] = field(default_factory=list)

    @property
    def now(self) -> float:
        return self.smooth[-1]

    @property
    def best(self) -> int:
        """Index of the lowest smoothed loss."""
        return min(range(len(self.smooth)), key=self.smooth.__getitem__)

    @property
    def falls(self) -> bool:
        """Whether the last quarter is clearly lower than the one before."""
        quarter = len(self.losses) // 4
        if quarter == 0:
            return self.losses[-1] < self.losses[0] * (1 - _FALLING)
        before, last = median(self.losses[-2 * quarter : -quarter]), median(self.losses[-quarter:])
        return last < before * (1 - _FALLING)


def judge(records: Sequence[Mapping[str, Any]], floor: Floor, facts: Facts | None = None) -> Verdict:
    """Say whether a run learns.

    Args:
        records: the records of metrics.jsonl in order, NaN and infinities as floats.
        floor: the unigram and bigram lines of the dataset.
        facts: what else is known.

    Returns:
        the verdict; a pure function of its arguments.
    """
    facts = facts or Facts()
    if facts.is_range_test and facts.failure is None:
        return _RANGE_TEST
    curve = _curve(records)
    verdict = _diverged(records, curve, facts) or _against_the_lines(records, curve, floor, facts)
    remarks = (*_lost_steps(records, verdict), *_overfitting(records), *_samples(facts.samples))
    return Verdict(verdict.kind, verdict.sentence, verdict.advice, remarks)


_RANGE_TEST = Verdict(
    "range_test",
    "A range test: its learning rate rises until the loss does, so the curve does not say whether the model learns.",
)


def series(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """(step, value) of every record that has a number under ``name``; NaN and infinities stay."""
    return [
        (record["step"], float(record[name]))
        for record in records
        if isinstance(record.get(name), int | float) and not isinstance(record[name], bool)
    ]


def running_median(values: Sequence[float], window: int) -> list[float]:
    """The median of each value and up to ``window`` - 1 before it; a single spike leaves no trace."""
    return [median(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def _curve(records: Sequence[Mapping[str, Any]]) -> _Curve:
    points = [(step, loss) for step, loss in series(records, "loss") if math.isfinite(loss)]
    losses = [loss for _, loss in points]
    window = min(_LONGEST_WINDOW, max(3, len(losses) // 20))
    return _Curve([step for step, _ in points], losses, running_median(losses, window))


def _diverged(records: Sequence[Mapping[str, Any]], curve: _Curve, facts: Facts) -> Verdict | None:
    advice = (
        "Lower optim.learning_rate (halve it), lengthen schedule.warmup_steps, and keep optim.gradient_clipping=1.0.",
        "Resume from a checkpoint before the rise, or start again.",
    )
    losses = series(records, "loss")
    if losses and not math.isfinite(losses[-1][1]):
        last = f"; the last finite one was {curve.losses[-1]:.2f} at step {curve.steps[-1]:,}" if curve.losses else ""
        if curve.losses and curve.losses[-1] > curve.smooth[curve.best] + _RISE:
            last += f", the best {curve.smooth[curve.best]:.2f} at step {curve.steps[curve.best]:,}"
        since = next((step for step, loss in losses if step > (curve.steps or [-1])[-1] and not math.isfinite(loss)))
        return Verdict("diverged", f"Diverged: the loss is {losses[-1][1]} since step {since:,}{last}.", advice)
    if facts.failure is not None:
        return Verdict("diverged", f"Diverged: {facts.failure}", advice)
    if len(curve.losses) >= _FEWEST_RECORDS and curve.now > curve.smooth[curve.best] + _RISE:
        low, step = curve.smooth[curve.best], curve.steps[curve.best]
        sentence = f"Diverged: the loss was down to {low:.2f} at step {step:,} and is back up at {curve.now:.2f}."
        return Verdict("diverged", sentence, advice)
    return None


def _against_the_lines(records: Sequence[Mapping[str, Any]], curve: _Curve, floor: Floor, facts: Facts) -> Verdict:
    if not curve.losses:
        return Verdict("too_short", "Too short to say: no loss has been recorded yet.")
    value, name = _value_to_compare(records, curve)
    unigram = floor.unigram_loss
    if unigram is None:
        fell = f"fell from {curve.losses[0]:.2f} to {curve.now:.2f}" if len(curve.losses) > 1 else f"is {value:.2f}"
        advice = ("Build the dataset with `zhgpt data build`: it measures the line that failing runs stick to.",)
        return Verdict("no_floor", f"Cannot say: the loss {fell}, but no unigram line was recorded.", advice)
    gap = unigram - value
    if gap > _LINE_WIDTH * unigram:
        return _learning(value, name, gap, floor)
    at = f"{name} {value:.2f}, unigram line {unigram:.2f}"
    if len(curve.losses) < _FEWEST_RECORDS:
        plural = "record" if len(curve.losses) == 1 else "records"
        return Verdict("too_short", f"Too short to say: {len(curve.losses)} {plural} so far ({at}).")
    if _warms_up(records):
        return Verdict("too_short", f"Too short to say: the learning rate is still warming up ({at}).")
    if curve.falls:
        return Verdict(
            "too_short", f"Too short to say: the loss still falls and is not below the unigram line yet ({at})."
        )
    if gap >= -_LINE_WIDTH * unigram:
        sentence = f"Stuck at the unigram line: the model has learnt token frequencies only ({at})."
        return Verdict("stuck_at_unigram", sentence, _stuck_advice(records, facts))
    sentence = f"Stuck above the unigram line: the model has not even learnt token frequencies ({at})."
    return Verdict("stuck_above_unigram", sentence, _stuck_advice(records, facts))


def _value_to_compare(records: Sequence[Mapping[str, Any]], curve: _Curve) -> tuple[float, str]:
    """The newest held-out loss, which the lines were measured on; the training loss if that is missing or old."""
    held_out = [(step, loss) for step, loss in series(records, "valid_loss") if math.isfinite(loss)]
    if held_out and held_out[-1][0] >= curve.steps[-1] / 2:
        return held_out[-1][1], "held-out loss"
    return curve.now, "training loss"


def _learning(value: float, name: str, gap: float, floor: Floor) -> Verdict:
    sentence = f"It learns: {name} {value:.2f} is {gap:.2f} nats below the unigram line ({floor.unigram_loss:.2f})"
    if floor.bigram_loss is None:
        return Verdict("learning", sentence + ".")
    place = "and below" if value < floor.bigram_loss else "but still above"
    return Verdict("learning", f"{sentence} {place} the bigram line ({floor.bigram_loss:.2f}).")


def _warms_up(records: Sequence[Mapping[str, Any]]) -> bool:
    rates = [rate for _, rate in series(records, "learning_rate")]
    return len(rates) > 1 and rates[-1] > max(rates[:-1])


def _stuck_advice(records: Sequence[Mapping[str, Any]], facts: Facts) -> tuple[str, ...]:
    advice = []
    rates = [rate for _, rate in series(records, "learning_rate")]
    if rates and max(rates) < _FINE_TUNING_RATE:
        advice.append(
            f"The learning rate never passed {max(rates):.1e}: that is a rate for fine-tuning. Pretraining from noise "
            "wants about 3e-4 to 1e-3 at these sizes: set optim.learning_rate."
        )
    share = facts.tokens_per_parameter
    if share is not None and share < _USUAL_TOKENS_PER_PARAMETER / 4:
        advice.append(
            f"The whole run has {share:.2g} tokens a parameter; about {_USUAL_TOKENS_PER_PARAMETER} is usual. "
            "Take more text, more steps, or a smaller model."
        )
    if not advice:
        advice.append(
            "Raise optim.learning_rate; then look whether text and tokenizer fit each other: "
            "`zhgpt data inspect PREFIX --document 0` must print readable text."
        )
    return tuple(advice)


def _lost_steps(records: Sequence[Mapping[str, Any]], verdict: Verdict) -> tuple[str, ...]:
    lost = [step for step, loss in series(records, "loss") if not math.isfinite(loss)]
    if not lost or verdict.kind == "diverged":
        return ()
    return (f"The loss was not a finite number at {len(lost)} recorded step(s), first at step {lost[0]:,}.",)


def _overfitting(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    held_out = [(step, loss) for step, loss in series(records, "valid_loss") if math.isfinite(loss)]
    if len(held_out) < 3:
        return ()
    best_step, best = min(held_out, key=lambda point: point[1])
    last = held_out[-1][1]
    training = [(step, loss) for step, loss in series(records, "loss") if math.isfinite(loss)]
    after = [loss for step, loss in training if step > best_step]
    before = [loss for step, loss in training if step <= best_step]
    if last < best + _OVERFITTING or not after or not before or median(after[-3:]) > median(before[-3:]):
        return ()
    return (
        f"Held-out loss was best at step {best_step:,} ({best:.2f}) and is {last:.2f} now while the training loss went "
        "on falling: the text is repeated too often for this model. Take the checkpoint near that step, or more text.",
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    remarks = []
    for name, threshold, sentence in (
        ("repeated_4gram_share", _REPEATED, "The newest samples repeat themselves: {:.0%} of their 4-grams."),
        ("punctuation_share", _PUNCTUATION, "The newest samples are mostly punctuation: {:.0%} of their characters."),
    ):
        shares = [float(s[name]) for s in samples if isinstance(s.get(name), int | float)]
        if shares and fmean(shares) > threshold:
            remarks.append(sentence.format(fmean(shares)))
    return tuple(remarks)
