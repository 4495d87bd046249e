"""The held-out text against the training text: a gap between them, and the point where more training makes it worse."""

import math
from statistics import median

from zhgpt.health.detector import Detector, Sighting
from zhgpt.health.history import SMOOTHED, History

LARGEST_GAP = 1.0
LARGEST_RISE = 0.1
FEWEST_EVALUATIONS = 3


def gap(history: History) -> Sighting | None:
    """Held-out text costs much more than training text."""
    held_out = history.now("valid_loss")
    if held_out is None or not history.smooth or not math.isfinite(held_out):
        return None
    training = history.smooth[-1]
    if held_out - training <= LARGEST_GAP:
        return None
    epochs = history.epochs
    read_en = f" The training text has been read {epochs:.2g} times." if epochs else ""
    read_zh = f"训练文本已读 {epochs:.2g} 遍。" if epochs else ""
    return Sighting(
        held_out - training,
        LARGEST_GAP,
        f"held-out loss {held_out:.2f} is {held_out - training:.2f} nats above the training loss {training:.2f}.{read_en}",
        f"验证损失 {held_out:.2f} 比训练损失 {training:.2f} 高 {held_out - training:.2f} 纳特。{read_zh}",
    )


def overfitting(history: History) -> Sighting | None:
    """The held-out loss has turned round while the training loss goes on falling."""
    if history.now("valid_loss") is None:
        return None
    held_out = [(step, loss) for step, loss in history.points("valid_loss") if math.isfinite(loss)]
    if len(held_out) < FEWEST_EVALUATIONS:
        return None
    best_step, best = min(held_out, key=lambda point: point[1])
    last = held_out[-1][1]
    before = [loss for step, loss in history.points("loss") if step <= best_step and math.isfinite(loss)][-SMOOTHED:]
    if last <= best + LARGEST_RISE or not before or median(before) <= history.smooth[-1]:
        return None
    epochs = history.epochs
    read_en = f"; the training text has been read {epochs:.2g} times" if epochs else ""
    read_zh = f"；训练文本已读 {epochs:.2g} 遍" if epochs else ""
    return Sighting(
        last - best,
        LARGEST_RISE,
        f"held-out loss was best at step {best_step:,} ({best:.2f}) and is {last:.2f} now, while the training loss went on "
        f"falling{read_en}.",
        f"验证损失在第 {best_step:,} 步最低（{best:.2f}），现在是 {last:.2f}，而训练损失仍在下降{read_zh}。",
    )


GAP = Detector(
    "gap",
    "Held-out text costs much more than training text",
    "验证与训练差距过大",
    f"the held-out loss is {LARGEST_GAP} nats above the median of the last {SMOOTHED} training losses",
    gap,
    "If the gap has been there from the start, the held-out text is of another kind: build train and valid from the same "
    "sources. If it grows, the text is too little for this model: more text, fewer steps, or a smaller model.",
    "若一开始就有差距，说明验证文本与训练文本不是一类：请用同样的来源划分训练集和验证集。若差距在扩大，说明文本对这个模型太少："
    "增加文本、减少步数，或换小一些的模型。",
    "valid_loss",
    clean_records=1,
)
OVERFITTING = Detector(
    "overfitting",
    "Overfitting to few documents",
    "过拟合",
    f"the held-out loss is {LARGEST_RISE} nats above its best while the training loss is lower than it was then",
    overfitting,
    "Take the checkpoint near the best step. The text is repeated too often for this model (about 4 readings are as good as new "
    "text): more text, fewer steps, or a smaller model.",
    "请取最低点附近的检查点。文本重复得太多（大约前 4 遍与新文本差不多）：增加文本、减少步数，或换小一些的模型。",
    "valid_loss",
    clean_records=1,
)
