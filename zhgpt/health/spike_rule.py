"""When one step counts as a spike: the same rule for the policy, which sees every step, and for the detector."""

import math
from collections.abc import Sequence
from statistics import median

WINDOW = 32
"""Steps (or records) before this one that it is compared with."""
FEWEST = 16
"""Steps below which nothing is compared: a window without a spread knows no jump."""
LOSS_RISE = 0.5
"""Nats above the median of the window that a jump has at least."""
LOSS_SPREADS = 6.0
"""Spreads of the window above its median that a jump has at least."""
NORM_FACTOR = 6.0
"""Medians of the window that the norm of a jump has at least."""


def loss_limit(losses: Sequence[float]) -> float | None:
    """The loss from which on a step is a spike; None while the window is too short to say.

    The spread is that of a normal distribution with the window's median absolute deviation (x 1.4826), which a spike in
    the window itself hardly moves. The median is of losses that fall: a young run is above its next loss anyway.
    """
    known = [loss for loss in losses if math.isfinite(loss)][-WINDOW:]
    if len(known) < FEWEST:
        return None
    middle = median(known)
    spread = 1.4826 * median(abs(loss - middle) for loss in known)
    return middle + max(LOSS_RISE, LOSS_SPREADS * spread)


def norm_limit(norms: Sequence[float]) -> float | None:
    """The gradient or update norm from which on a step is a spike; None while the window is too short to say."""
    known = [norm for norm in norms if math.isfinite(norm)][-WINDOW:]
    return NORM_FACTOR * median(known) if len(known) >= FEWEST else None


def spike_in(name: str, value: float | None, limit: float | None) -> str | None:
    """What is wrong with one value, in words; None where nothing is.

    Args:
        name: what the value is.
        value: of this step; None: not known.
        limit: from :func:`loss_limit` or :func:`norm_limit`.
    """
    if value is None:
        return None
    if not math.isfinite(value):
        return f"{name} {value}"
    if limit is not None and value > limit:
        return f"{name} {value:.3g}, past the limit of {limit:.3g}"
    return None
