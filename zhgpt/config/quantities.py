"""Numbers as people read them: counts, durations, shares, losses. Used by plans, the console and the report."""

import math

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


def count_text(count: float) -> str:
    """A count in three digits: ``999``, ``12.3k``, ``124M``, ``2.50B``."""
    if not math.isfinite(count):
        return str(count)
    for divisor, suffix in ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T")):
        scaled = count / divisor
        if abs(scaled) < 999.5 or suffix == "T":
            break
    if suffix == "":
        return f"{scaled:.0f}"
    digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    return f"{scaled:.{digits}f}{suffix}"


def duration_text(seconds: float) -> str:
    """A duration in its two largest units: ``45 s``, ``3 min 05 s``, ``2 h 07 min``, ``1 d 04 h``."""
    if not math.isfinite(seconds):
        return str(seconds)
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"


def share_text(share: float) -> str:
    """A share of one in percent: ``41.2 %``."""
    return f"{100 * share:.1f} %"


def rate_text(rate: float) -> str:
    """A learning rate: ``6.00e-04``."""
    return f"{rate:.2e}"


def loss_text(loss: float) -> str:
    """A loss in nats or in bits per byte, with the digits that mean something: ``4.1234``."""
    return f"{loss:.4f}"
