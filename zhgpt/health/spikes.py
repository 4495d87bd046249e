"""Sudden jumps: of the loss, the gradients, the updates."""

import math

from zhgpt.health.detector import Detector, Sighting
from zhgpt.health.history import History
from zhgpt.health.spike_rule import FEWEST, LOSS_RISE, LOSS_SPREADS, NORM_FACTOR, WINDOW, loss_limit, norm_limit

_NAMES = {
    "loss_max": ("loss", "loss", "损失"),
    "gradient_norm_max": ("gradient_norm", "gradient norm", "梯度范数"),
    "update_norm": ("update_norm", "update norm", "更新范数"),
}


def spike(history: History) -> Sighting | None:
    """A step since the line before is far outside of what the records before it were."""
    for name, (before, en, zh) in _NAMES.items():
        value = history.now(name)
        if value is None:
            continue
        usual = history.last(before, WINDOW, but=1)
        limit = loss_limit(usual) if name == "loss_max" else norm_limit(usual)
        if limit is not None and (value > limit or not math.isfinite(value)):
            return Sighting(
                value,
                limit,
                f"{en} {value:.3g} in the steps up to {history.step:,}; the records before put the limit at {limit:.3g}.",
                f"截至第 {history.step:,} 步，{zh}达到 {value:.3g}；按之前的记录，界限是 {limit:.3g}。",
            )
    return None


SPIKE = Detector(
    "spike",
    "Spike",
    "尖峰",
    f"of the steps since the line before: a loss above the median of the last {WINDOW} records by {LOSS_RISE} nats and "
    f"{LOSS_SPREADS:g} spreads, or a gradient or update norm above {NORM_FACTOR:g} times its median; from {FEWEST} records on",
    spike,
    "One that goes back by itself does no harm. Where they come often: lower optim.learning_rate, lengthen "
    "schedule.warmup_steps, look for broken documents in the data, or set health.on_spike=skip (or roll_back).",
    "偶尔一次并能自行回落则无妨。若频繁出现：降低 optim.learning_rate，加长 schedule.warmup_steps，检查数据里有没有损坏的文档，"
    "或设置 health.on_spike=skip（或 roll_back）。",
    "loss_max",
)
