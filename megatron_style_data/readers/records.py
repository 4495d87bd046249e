"""Records in, texts out: by the schema of a corpus, or from the field that holds the text."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.counters import ReadCounters
from megatron_style_data.readers.parts import FilePart
from megatron_style_data.readers.schemas import Extracted, Record, Schema
from megatron_style_data.readers.schemas.schema import string_or_why
from megatron_style_data.readers.text_fields import TEXT_FIELDS, choose_text_field

# What a container gives: number of the record, the record, and its bytes where it has any.
Records = Iterator[tuple[int, dict[str, Any], bytes | None]]


class RawDocument(NamedTuple):
    """A document before normalisation: where it begins in the file, its text, what else its record says."""

    place: int
    text: str
    fields: dict[str, Any]


@dataclass(slots=True)
class OneField:
    """Takes the texts of records that have it in one field.

    Attributes:
        name: The field; None: it is chosen at the first record that tells, and holds for the file.
        unit: What a record is in the file, for messages.
        bad: Takes the records without a text.
    """

    name: str | None
    unit: str
    bad: BadDocuments

    def text_of(self, number: int, record: Record, content: bytes | None) -> str | None:
        """The text of a record; None if it was bad and counted.

        Raises:
            BadDataError: The first record has no text field, or a bad record is refused.
        """
        place = f"{self.unit} {number}"
        if self.name is None:
            self.name = _choose(record, place, self.bad, content)
            if self.name is None:
                return None
        value, why = string_or_why(record, self.name)
        if why is None:
            return value
        self.bad.take("no_text", place, why, _bytes_of(record, content))
        return None


def one_field(
    records: Callable[[BadDocuments], Records], unit: str, schema: Schema | None, bad: BadDocuments
) -> OneField | None:
    """What gives the texts of ``documents_of`` where each is one field of a record; None where it is more than that."""
    if schema is None or bad.options.text_field is not None:
        return OneField(_field_of_the_file(records, unit, bad), unit, bad)
    return None if schema.text_field is None else OneField(schema.text_field, unit, bad)


def documents_of(
    records: Callable[[BadDocuments], Records], unit: str, schema: Schema | None, bad: BadDocuments
) -> Iterator[RawDocument]:
    """Yields the document of each record of a file.

    Args:
        records: Gives the file's records.
        unit: What a record is in the file, for messages: line, row, item.
        schema: The corpus; None, or with ``options.text_field``: the text is in one field of every record.
        bad: Takes the records without a text.

    Raises:
        BadDataError: The first record has no text field, or a bad record is refused.
    """
    if schema is None or bad.options.text_field is not None:
        field = OneField(_field_of_the_file(records, unit, bad), unit, bad)
        for number, record, content in records(bad):
            text = field.text_of(number, record, content)
            if text is not None:
                others = {name: value for name, value in record.items() if name != field.name}
                yield RawDocument(number, text, others)
    elif schema.goes_on is None:
        for number, extracted in _extracted(records(bad), unit, schema, bad):
            yield RawDocument(number, extracted.text, dict(extracted.fields))
    else:
        yield from _dialogues(_extracted(records(bad), unit, schema, bad), schema.goes_on, bad)


def _extracted(records: Records, unit: str, schema: Schema, bad: BadDocuments) -> Iterator[tuple[int, Extracted]]:
    for number, record, content in records:
        found = schema.extract(record, bad.options)
        if isinstance(found, str):
            bad.take("no_text", f"{unit} {number}", found, _bytes_of(record, content))
        else:
            yield number, found


def _dialogues(
    extracted: Iterator[tuple[int, Extracted]], goes_on: Callable[[Extracted, Extracted], bool], bad: BadDocuments
) -> Iterator[RawDocument]:
    """Joins what goes on, as far as a document may be long."""
    held: list[Extracted] = []
    first, size = 0, 0
    for number, turn in extracted:
        size += 4 * len(turn.text)  # at most so many bytes
        if held and not (goes_on(held[-1], turn) and size <= bad.options.max_document_bytes):
            yield _one_dialogue(first, held)
            held, size = [], 4 * len(turn.text)
        if not held:
            first = number
        held.append(turn)
    if held:
        yield _one_dialogue(first, held)


def _one_dialogue(place: int, turns: list[Extracted]) -> RawDocument:
    said = [turn for extracted in turns for turn in extracted.fields["conversations"]]
    text = "\n\n".join(extracted.text for extracted in turns)
    return RawDocument(place, text, {**turns[0].fields, "conversations": said})


def _field_of_the_file(records: Callable[[BadDocuments], Records], unit: str, bad: BadDocuments) -> str | None:
    """The text field by the records before the part that is read; None where there are none, or none that tells."""
    part = bad.file.part
    if part is None or part.start == 0:
        return None
    before = replace(bad.file, part=FilePart(0, part.start))
    unheard = BadDocuments(before, replace(bad.options, on_bad="skip", max_bad=None), ReadCounters(), bad.encoding)
    try:
        for number, record, content in records(unheard):
            found = _choose(record, f"{unit} {number}", unheard, content)
            if found is not None:
                return found
    except BadDataError:  # whoever reads that part will say it
        pass
    return None


def _choose(record: Record, place: str, bad: BadDocuments, content: bytes | None) -> str | None:
    """The text field by this record; None if it has the field but null in it, so that a later record must tell."""
    asked = bad.options.text_field
    strings = [name for name, value in record.items() if isinstance(value, str)]
    candidates = TEXT_FIELDS if asked is None else (asked,)
    if not any(name in strings for name in candidates):
        for name in candidates:
            if name in record and record[name] is None:
                bad.take("no_text", place, string_or_why(record, name)[1] or "", _bytes_of(record, content))
                return None
    return choose_text_field(f"{bad.file.path}, {place}", list(record), strings, asked)


def _bytes_of(record: Record, content: bytes | None) -> bytes:
    return json.dumps(record, ensure_ascii=True, default=str).encode("ascii") if content is None else content
