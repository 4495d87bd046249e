"""How soon a variant is as good as the baseline at its end: the share of the baseline's tokens, time or FLOPs."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from zhgpt.ablate.observed import Basis, Observed, Point
from zhgpt.ablate.student import mean_interval


@dataclass(frozen=True)
class Reach:
    """What a variant needs for the baseline's last bits per byte, as a ratio to what the baseline needs.

    Attributes:
        ratio: geometric mean over the pairs.
        low, high: its interval; 0 and infinity with a single pair.
    """

    ratio: float
    low: float = 0.0
    high: float = math.inf

    def text(self, unit: str = "") -> str:
        """``0.43``, or ``0.43 (0.40 to 0.46)``; what is counted stands before the interval."""
        spread = f" ({self.low:.2f} to {self.high:.2f})" if math.isfinite(self.high) else ""
        return f"{self.ratio:.2f}{unit}{spread}"


def reach(pairs: Sequence[tuple[Observed, Observed]], basis: Basis, confidence: float) -> Reach | None:
    """The ratio over all pairs.

    A variant that is read on its way has not lowered its learning rate yet: one that was planned to end there would need less.

    Args:
        pairs: (variant, baseline) of the same seed, both done.
        basis: what is counted.
        confidence: of the interval.

    Returns:
        None without pairs, where the basis was not measured, and where a variant is never as good.
    """
    logarithms = []
    for run, other in pairs:
        whole = getattr(other.points[-1], basis)
        place = first_place(run.points, basis, other.points[-1].bits)
        if not whole or not place:
            return None
        logarithms.append(math.log(place / whole))
    if not logarithms:
        return None
    interval = mean_interval(logarithms, confidence)
    if interval.half_width is None:
        return Reach(math.exp(interval.mean))
    return Reach(math.exp(interval.mean), math.exp(interval.low), math.exp(min(interval.high, 700)))


def first_place(points: Sequence[Point], basis: Basis, bits: float) -> float | None:
    """Where a run first has at most these bits per byte, between two evaluations on a straight line.

    None where it never has, and where the basis was not measured; its first evaluation, if it has them there already.
    """
    places = [getattr(point, basis) for point in points]
    if None in places or not points:
        return None
    if points[0].bits <= bits:
        return float(places[0])
    for (before, after), (start, end) in zip(itertools.pairwise(points), itertools.pairwise(places), strict=True):
        if after.bits <= bits:
            return float(start + (before.bits - bits) / (before.bits - after.bits) * (end - start))
    return None
