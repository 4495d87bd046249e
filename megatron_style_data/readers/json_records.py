"""JSON text of one record to an object; whatever it is instead is a bad document."""

import json
from typing import Any

from megatron_style_data.readers.bad_documents import BadDocuments

# Not strict: corpora hold raw tabs and NULs within strings; the text is rid of them later, and they are counted.
_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda name: None)


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
