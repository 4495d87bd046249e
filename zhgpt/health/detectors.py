"""All detectors by name. A new one is a file or a function here, and a line in this dict."""

from zhgpt.health.detector import Detector
from zhgpt.health.generalising import GAP, OVERFITTING
from zhgpt.health.layers import DEAD_LAYER, EXPLODING_LAYER
from zhgpt.health.learning import DIVERGED, STUCK_AT_UNIGRAM
from zhgpt.health.samples import COPIES, LOOPS
from zhgpt.health.speed import LOADER_BOUND
from zhgpt.health.spikes import SPIKE

DETECTORS: dict[str, Detector] = {
    "stuck_at_unigram": STUCK_AT_UNIGRAM,
    "diverged": DIVERGED,
    "spike": SPIKE,
    "loops": LOOPS,
    "copies": COPIES,
    "gap": GAP,
    "overfitting": OVERFITTING,
    "dead_layer": DEAD_LAYER,
    "exploding_layer": EXPLODING_LAYER,
    "loader_bound": LOADER_BOUND,
}
