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
    path, longest, part = bad.file.path, bad.options.max_document_bytes, bad.file.part
    for number, line in byte_lines(path, longest, part):
        place = f"line {number}"
        if line is None:
            bad.take("too_long", place, f"more than {longest} bytes")
            continue
        record = strict_object(line) if bad.encoding == "utf-8" else None
        if record is not None:
            yield number, record, line
            continue
        if not line.strip():
            continue
        text = bad.decode(line, place)
        if text is None:
            continue
        if number == 1 and text.lstrip().startswith("[") and (part is None or part.start == 0):
            raise BadDataError(
                f"{path}: begins with '[', so it is a JSON array; expected one object a line (the format json reads "
                "arrays, jq -c '.[]' converts them)."
            )
        record = parse_object(text, place, bad, line)
        if record is not None:
            yield number, record, line
