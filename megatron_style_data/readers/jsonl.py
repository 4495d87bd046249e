"""Reads JSON Lines, plain or compressed: one object a line, the text in one of its fields."""

import json
from collections.abc import Iterator
from typing import Any

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.byte_stream import byte_lines
from megatron_style_data.readers.text_fields import TEXT_FIELDS, choose_text_field


def read_jsonl(bad: BadDocuments) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of each object; blank lines are nothing.

    The field is chosen at the first object and holds for the file.

    Raises:
        BadDataError: The first object has no text field, the file is a JSON array, or a bad line is refused.
    """
    path, longest = bad.file.path, bad.options.max_document_bytes
    text_field: str | None = None
    for number, line in byte_lines(path, longest):
        place = f"line {number}"
        if line is None:
            bad.take("too_long", place, f"more than {longest} bytes")
            continue
        if not line.strip():
            continue
        text = bad.decode(line, place)
        if text is None:
            continue
        if number == 1 and text.lstrip().startswith("["):
            raise BadDataError(
                f"{path}: begins with '[', so it is a JSON array; expected one object a line (jq -c '.[]' converts it)."
            )
        record = _parse(text, place, bad)
        if record is None:
            continue
        if text_field is None:
            text_field = _choose(record, place, bad)
            if text_field is None:
                continue
        value = record.get(text_field)
        if isinstance(value, str):
            yield number, value
        else:
            bad.take("no_text", place, _what_is_there(record, text_field))


def _choose(record: dict[str, Any], place: str, bad: BadDocuments) -> str | None:
    """The text field by this record; None if it has the field but null in it, so that a later record must tell."""
    asked = bad.options.text_field
    strings = [name for name, value in record.items() if isinstance(value, str)]
    candidates = TEXT_FIELDS if asked is None else (asked,)
    if not any(name in strings for name in candidates):
        for name in candidates:
            if name in record and record[name] is None:
                bad.take("no_text", place, _what_is_there(record, name))
                return None
    return choose_text_field(f"{bad.file.path}, {place}", list(record), strings, asked)


def _parse(line: str, place: str, bad: BadDocuments) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # RecursionError: nested thousands deep
        bad.take("not_json", place, f"not JSON ({error})")
        return None
    if isinstance(record, dict):
        return record
    bad.take("not_json", place, f"a JSON {type(record).__name__}, not an object")
    return None


def _what_is_there(record: dict[str, Any], text_field: str) -> str:
    if text_field in record:
        return f"field {text_field!r} is {json.dumps(record[text_field], ensure_ascii=False)[:40]}, not a string"
    return f"no field {text_field!r} (found: {', '.join(map(repr, record)) or 'none'})"
