"""Does the loss do what a loss should: pass the unigram line, and not come back up."""

import math

from zhgpt.health.detector import Detector, Sighting
from zhgpt.health.history import SMOOTHED, History
from zhgpt.health.stuck_advice import stuck_advice

PATIENCE_STEPS = 250
"""Steps by which a healthy run is below the unigram line."""
SETTLED_STEPS = 100
"""Steps that the learning rate must have been at its height."""
FEWEST_RECORDS = 8
"""Records from which on a run is judged at its last step, however short it was."""
UNDER_THE_LINE = 0.97
"""Share of the unigram line that a run must be under by then."""
RISE = 0.5
"""Nats above the best (smoothed) loss from which on a run diverges."""


def stuck_at_unigram(history: History) -> Sighting | None:
    """The loss is still at the unigram line, or above it, when it should long have passed it, or when the run ends."""
    line = history.facts.unigram_loss
    ends = history.is_last and len(history.smooth) >= FEWEST_RECORDS
    if line is None or not (ends or history.step >= PATIENCE_STEPS):
        return None
    held_out = history.now("valid_loss")
    value = held_out if held_out is not None else history.smooth[-1] if history.smooth else None
    limit = UNDER_THE_LINE * line
    if value is None or not math.isfinite(value) or not history.smooth or min(value, history.smooth[-1]) < limit:
        return None  # a training loss below the line with a held-out loss above it is another illness
    if not ends and _settled_since(history) > history.step - SETTLED_STEPS:
        return None
    kind_en, kind_zh = ("training", "训练") if held_out is None else ("held-out", "验证")
    last_en, last_zh = (", the run's last", "（最后一步）") if history.is_last else ("", "")
    return Sighting(
        value,
        limit,
        f"{kind_en} loss {value:.2f} after {history.step:,} steps{last_en}: not below the "
        f"unigram line ({line:.2f}), so the model knows at most which tokens are frequent.",
        f"第 {history.step:,} 步{last_zh}的{kind_zh}损失为 {value:.2f}，"
        f"仍未低于词频基准线（{line:.2f}）：模型最多只学到了哪些 token 常见。",
        *stuck_advice(history),
    )


def diverged(history: History) -> Sighting | None:
    """The loss is no number any more, or has come up from its best and stays there."""
    loss = history.now("loss")
    if loss is not None and not math.isfinite(loss):
        return Sighting(loss, math.inf, f"the loss is {loss}.", f"损失已变为 {loss}。")
    best, at = history.best
    if loss is None or not math.isfinite(best) or len(history.smooth) < SMOOTHED:
        return None
    now, limit = history.smooth[-1], best + RISE
    if now <= limit:
        return None
    return Sighting(
        now,
        limit,
        f"the training loss is {now:.2f} (median of {SMOOTHED} records), up from {best:.2f} at step {at:,}.",
        f"训练损失（最近 {SMOOTHED} 条的中位数）为 {now:.2f}，高于第 {at:,} 步的 {best:.2f}。",
    )


def _settled_since(history: History) -> int:
    """The step at which the learning rate reached its height so far."""
    rates = history.points("learning_rate")
    return max(rates, key=lambda point: point[1])[0] if rates else 0


STUCK_AT_UNIGRAM = Detector(
    "stuck_at_unigram",
    "Stuck at the unigram line",
    "停在词频基准线上",
    f"the loss (held-out where there is one) is not below {UNDER_THE_LINE:.0%} of the unigram line, {PATIENCE_STEPS} steps into "
    f"the run and {SETTLED_STEPS} steps after the warm-up, or at the run's last step (from {FEWEST_RECORDS} records on)",
    stuck_at_unigram,
    "Look at optim.learning_rate and at the tokens a parameter (about 20 is usual).",
    "检查 optim.learning_rate 和每个参数分到的 token 数（通常约 20）。",
    "valid_loss",
    clean_records=1,
)
DIVERGED = Detector(
    "diverged",
    "Diverged",
    "训练发散",
    f"the loss is not finite, or the median of the last {SMOOTHED} records is {RISE} nats above the lowest such median",
    diverged,
    "Halve optim.learning_rate, lengthen schedule.warmup_steps and keep optim.gradient_clipping=1.0; go on from a checkpoint "
    "before the rise with --resume PATH, or start again.",
    "把 optim.learning_rate 减半，加长 schedule.warmup_steps，保持 optim.gradient_clipping=1.0；用 --resume PATH "
    "从上升之前的检查点继续，或重新开始。",
)
