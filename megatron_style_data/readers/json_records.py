"""JSON text of one record to an object; whatever it is instead is a bad document."""

import json
from typing import Any

import orjson

from megatron_style_data.readers.bad_documents import BadDocuments

# Not strict: corpora hold raw tabs and NULs within strings; the text is rid of them later, and they are counted.
_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda name: None)

# From here on orjson gives a float for a whole number that Python reads exactly.
_LARGE_NUMBER = float(1 << 63)


def strict_object(content: bytes) -> dict[str, Any] | None:
    """The object in one record of strict JSON in UTF-8, as `parse_object` gives it but several times as fast.

    None where it is anything else, or where the fast library reads something else; `parse_object` tells what it is.
    """
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and read_exactly(record) else None


def read_exactly(record: dict[str, Any]) -> bool:
    """Whether the fast library reads all numbers of a record, which it read, as `parse_object` does."""
    waiting: list[Any] = list(record.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) and abs(value) >= _LARGE_NUMBER:
            return False
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return True


def parse_object(line: str, place: str, bad: BadDocuments, content: bytes) -> dict[str, Any] | None:
    """The object that a line or an array's item is; None if it was bad and counted.

    NaN and Infinity, which JSON does not know, become null.

    Raises:
        BadDataError: Not an object, with ``on_bad="refuse"``.
    """
    try:
        record = _DECODER.decode(line.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # RecursionError: nested thousands deep
        bad.take("not_json", place, f"not JSON ({error})", content)
        return None
    if isinstance(record, dict):
        return record
    bad.take("not_json", place, f"a JSON {type(record).__name__}, not an object", content)
    return None
