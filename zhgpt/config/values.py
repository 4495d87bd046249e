"""Checks of single values, stricter than pydantic's: no text taken for a number, no number for a switch."""

import math
from collections.abc import Mapping
from typing import Any

MOST_WARMUP_STEPS = 2000


def spell(value: object) -> str:
    """The value as a reader of YAML knows it: null, true, 'text', 3, a list, a mapping."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return str(value)


def _unquoted(value: str) -> str:
    """Advice for a number that was written as text."""
    try:
        float(value)
    except ValueError:
        return ""
    return "; take the quotation marks away"


def whole_number(value: object) -> object:
    """Pass whole numbers; 5e5 counts, true, '8' and 0.5 do not.

    Raises:
        ValueError: anything else, saying what was found.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    advice = _unquoted(value) if isinstance(value, str) else ""
    raise ValueError(f"expected a whole number, found {spell(value)}{advice}")


def real_number(value: object) -> object:
    """Pass numbers, refuse switches and text.

    Raises:
        ValueError: anything else, saying what was found.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"must be a finite number, found {value}")
        return value
    advice = _unquoted(value) if isinstance(value, str) else ""
    raise ValueError(f"expected a number, found {spell(value)}{advice}")


def rate_or_auto(value: object) -> object:
    """Pass numbers above 0, and the word auto.

    Raises:
        ValueError: anything else, saying what was found.
    """
    if value == "auto":
        return value
    number = real_number(value)
    if not isinstance(number, int | float) or number <= 0:
        raise ValueError(f"must be greater than 0, found {spell(value)}")
    return float(number)


def switch(value: object) -> object:
    """Pass true and false only; pydantic alone would take 1, 'on' and 'yes' too.

    Raises:
        ValueError: anything else, saying what was found.
    """
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, found {spell(value)}")


def check_run_name(name: str) -> str:
    """Pass a name that is one folder's name on any file system.

    Raises:
        ValueError: the name is empty, hidden, too long, or holds a separator or a control character.
    """
    if not name or name != name.strip() or name.startswith(".") or len(name.encode()) > 200:
        raise ValueError(f"expected a folder's name (not empty, no leading dot or blank, <= 200 bytes), found '{name}'")
    bad = sorted({character for character in name if character in '/\\:*?"<>|' or not character.isprintable()})
    if bad:
        raise ValueError(f"a folder's name cannot hold {' '.join(map(repr, bad))}; use run.dir for a path")
    return name


def default_warmup_steps(values: Any) -> Any:
    """Fill in `schedule.warmup_steps` where it was left out: 2 % of train.steps, 1 to 2000, below train.steps."""
    if not isinstance(values, Mapping):
        return values
    schedule, train = values.get("schedule", {}), values.get("train")
    if not isinstance(schedule, Mapping) or schedule.get("warmup_tokens") is not None:
        return values
    if schedule.get("warmup_steps") is not None:
        return values
    steps = train.get("steps") if isinstance(train, Mapping) else getattr(train, "steps", None)
    warmup = 0
    if isinstance(steps, int | float) and 0 < steps < math.inf:
        warmup = min(MOST_WARMUP_STEPS, max(1, int(steps) // 50), int(steps) - 1)
    return {**values, "schedule": {**schedule, "warmup_steps": warmup}}
