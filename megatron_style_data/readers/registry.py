"""All readers: how records lie in a file (containers) times what records say (schemas), and the readers of plain text."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.cluecorpus import read_cluecorpus
from megatron_style_data.readers.hugging_face import hub_records
from megatron_style_data.readers.json_array import array_records
from megatron_style_data.readers.jsonl import line_records
from megatron_style_data.readers.parquet import row_records
from megatron_style_data.readers.records import OneField, RawDocument, Records, documents_of, one_field
from megatron_style_data.readers.schemas import SCHEMAS
from megatron_style_data.readers.streams import read_stream
from megatron_style_data.readers.text import read_text

Parts = Literal["lines", "row_groups"]


@dataclass(frozen=True, slots=True)
class Container:
    """A way in which records lie in a file.

    Attributes:
        records: Gives the records.
        parts: What a file (without compression) can be cut into, so that several read it; None: it cannot.
        unit: What a record is, in messages.
        about: The container in words.
    """

    records: Callable[[BadDocuments], Records]
    parts: Parts | None
    unit: str
    about: str


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """A reader.

    Attributes:
        read: Gives the documents of a file before normalisation, in order, with bounded memory.
        parts: What a file (without compression) can be cut into, so that several read it; None: it cannot.
        unit: What a document's place counts: lines, rows, items.
        about: What it reads, in words.
        field: For lines of JSON, what gives the texts alone, where each is one field of a line; None: it cannot.
    """

    read: Callable[[BadDocuments], Iterator[RawDocument]]
    parts: Parts | None
    unit: str
    about: str
    field: Callable[[BadDocuments], OneField | None] | None = None


CONTAINERS: Mapping[str, Container] = MappingProxyType(
    {
        "jsonl": Container(line_records, "lines", "line", "JSON lines"),
        "json": Container(array_records, None, "item", "one JSON array"),
        "parquet": Container(row_records, "row_groups", "row", "Parquet"),
        "hf": Container(hub_records, None, "row", "a stream of the datasets library"),
    }
)


def reader_name(container: str, schema: str | None) -> str:
    """The key in ``READERS``: ``jsonl`` for any JSON lines, ``cci.jsonl`` for those of CCI."""
    return container if schema is None else f"{schema}.{container}"


def _spec(container: Container, schema_name: str | None) -> ReaderSpec:
    schema = None if schema_name is None else SCHEMAS[schema_name]
    whole_dialogues = schema is not None and schema.goes_on is not None  # a cut could part one
    return ReaderSpec(
        partial(documents_of, container.records, container.unit, schema),
        None if whole_dialogues else container.parts,
        container.unit,
        container.about if schema is None else f"{schema.corpus}; {container.about}",
        partial(one_field, line_records, container.unit, schema) if container.records is line_records else None,
    )


READERS: Mapping[str, ReaderSpec] = MappingProxyType(
    {
        "text": ReaderSpec(read_text, None, "line", "text"),
        "cluecorpus": ReaderSpec(read_cluecorpus, None, "line", "CLUECorpus: a sentence a line"),
        **{
            reader_name(name, schema): _spec(container, schema)
            for name, container in CONTAINERS.items()
            for schema in (None, *SCHEMAS)
        },
        "hf": ReaderSpec(read_stream, None, "row", "a stream of the datasets library"),
    }
)
