"""How far a step moves each layer: not at all, or so far that it forgets what it was."""

from zhgpt.health.detector import Detector, Sighting
from zhgpt.health.history import History

LARGEST_RATIO = 0.1
DEAD_PER_RATE = 0.5
DEAD_MOST = 5e-3
"""A layer that moves by more of its weights a step is alive, however high the learning rate."""
DEAD_SHARE = 0.02
RECORDS = 3
"""Records in a row that must say so."""


def exploding(history: History) -> Sighting | None:
    """A layer changes by a large share of itself, step after step."""
    found = history.last("update_ratio_max", RECORDS)
    layer = history.now("update_ratio_max_layer")
    if layer is None or len(found) < RECORDS or min(found) <= LARGEST_RATIO:
        return None
    return Sighting(
        found[-1],
        LARGEST_RATIO,
        f"layer {layer:.0f} moves by {found[-1]:.2g} of its weights a step.",
        f"第 {layer:.0f} 层每步改变自身权重的 {found[-1]:.2g}。",
    )


def dead(history: History) -> Sighting | None:
    """A layer does not move, measured by the learning rate of its matrices, or by what the others do."""
    scheduled, layer = history.now("learning_rate"), history.now("update_ratio_min_layer")
    found, middle = history.last("update_ratio_min", RECORDS), history.now("update_ratio")
    if not scheduled or layer is None or middle is None or len(found) < RECORDS:
        return None
    rate = history.hidden_rate(scheduled)
    limit = max(min(DEAD_PER_RATE * rate, DEAD_MOST), DEAD_SHARE * middle)
    if max(found) >= limit:
        return None
    return Sighting(
        found[-1],
        limit,
        f"layer {layer:.0f} moves by {found[-1]:.2g} of its weights a step, at a learning rate of {rate:.2g} and a median over "
        f"the layers of {middle:.2g}.",
        f"第 {layer:.0f} 层每步只改变自身权重的 {found[-1]:.2g}（学习率 {rate:.2g}，各层中位数 {middle:.2g}）。",
    )


EXPLODING_LAYER = Detector(
    "exploding_layer",
    "A layer moves too far",
    "某层更新过大",
    f"the largest update-to-weight ratio of a layer is above {LARGEST_RATIO} in {RECORDS} records in a row",
    exploding,
    "Lower optim.learning_rate or lengthen schedule.warmup_steps; about 1e-3 of its weights a step is usual for a layer.",
    "降低 optim.learning_rate，或加长 schedule.warmup_steps；通常一层每步改变自身权重的千分之一左右。",
    "update_ratio_max",
)
DEAD_LAYER = Detector(
    "dead_layer",
    "A layer does not move",
    "某层几乎不更新",
    f"the smallest update-to-weight ratio of a layer is below {DEAD_PER_RATE:g} times the learning rate of the layers' "
    f"matrices and below {DEAD_MOST:g}, or below {DEAD_SHARE:.0%} of the median layer's, in {RECORDS} records in a row",
    dead,
    "No gradient reaches the layer, or the optimizer swallows it: look at optim.eps (1e-8 is usual; a large one stops every "
    "layer), at train.initial_weights (a layer of zeros stays one), and at model.initializer_range.",
    "梯度到不了这一层，或被优化器吞掉：检查 optim.eps（通常 1e-8，过大会使所有层停住）、train.initial_weights"
    "（全零的层会一直是零）和 model.initializer_range。",
    "update_ratio_min",
)
