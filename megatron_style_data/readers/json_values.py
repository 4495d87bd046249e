"""What records say besides their text, as clean JSON values: no lone surrogates, no NaN, no dates or bytes."""

import math
from datetime import date
from typing import Any

from megatron_style_data.normalize import normalize

# Far deeper than any corpus nests its fields, and within what Python's stack bears.
_DEEPEST = 100


def json_value(value: Any, depth: int = 0) -> Any:
    """``value`` with its strings normalised like texts, NaN and infinities as None, and dates in ISO form.

    What is nested more than 100 deep is None.
    """
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else normalize(value).text
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict | list | tuple) and depth == _DEEPEST:
        return None
    if isinstance(value, dict):
        return {json_value(str(name)): json_value(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, depth + 1) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    return normalize(str(value)).text
