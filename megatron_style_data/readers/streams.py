"""Reads a stream of the ``datasets`` library: what it holds is found out when its first records arrive."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.hugging_face import hub_records, parse_address
from megatron_style_data.readers.records import RawDocument, Records, documents_of
from megatron_style_data.readers.schemas import SCHEMAS, schema_of

_FIRST_RECORDS = 16


def read_stream(bad: BadDocuments) -> Iterator[RawDocument]:
    """Yields the documents of an ``hf://`` address by the corpus its first records are of, or by its ``field``.

    Raises: what ``hub_records`` raises, and BadDataError for records without a text.
    """
    asked = parse_address(bad.file.source)
    if asked.field is not None:
        bad = replace(bad, options=replace(bad.options, text_field=asked.field))
    records = hub_records(bad)
    first = list(islice(records, _FIRST_RECORDS))
    name, why = schema_of([record for _, record, _ in first], asked.path.lower())
    if bad.options.text_field is None:
        bad.counters.note(f"{bad.file.source}: read as {name or 'records with a text field'} ({why})")

    def all_records(_: BadDocuments) -> Records:
        yield from chain(first, records)

    yield from documents_of(all_records, "row", None if name is None else SCHEMAS[name], bad)
