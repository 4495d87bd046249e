"""Reads JSON Lines, plain or compressed: one object a line."""

from collections.abc import Iterator
from typing import Any

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.byte_stream import byte_lines
from megatron_style_data.readers.json_records import parse_object, strict_object


def line_records(bad: BadDocuments) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yields (line number, object, the line) of each object; blank lines are nothing.

    Raises:
        BadDataError: The file is a JSON array, or a bad line is refused.
    """
    for number, line in byte_lines(bad.file.path, bad.options.max_document_bytes, bad.file.part):
        record = record_of_line(number, line, bad)
        if record is not None:
            yield number, record, line or b""


def record_of_line(number: int, line: bytes | None, bad: BadDocuments) -> dict[str, Any] | None:
    """The object of one line; None if it is blank, or was bad and counted. Raises what ``line_records`` raises.

    Args:
        number: Of the line, from 1, in the part that is read.
        line: Without its end; None if it is longer than a document may be.
        bad: Takes it where it is no object.
    """
    part, place = bad.file.part, f"line {number}"
    if line is None:
        bad.take("too_long", place, f"more than {bad.options.max_document_bytes} bytes")
        return None
    record = strict_object(line) if bad.encoding == "utf-8" else None
    if record is not None or not line.strip():
        return record
    text = bad.decode(line, place)
    if text is None:
        return None
    if number == 1 and text.lstrip().startswith("[") and (part is None or part.start == 0):
        raise BadDataError(
            f"{bad.file.path}: begins with '[', so it is a JSON array; expected one object a line (the format json reads "
            "arrays, jq -c '.[]' converts them)."
        )
    return parse_object(text, place, bad, line)
