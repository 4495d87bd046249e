"""Which reader a file wants: its name, its first bytes and its first records say it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from megatron_style_data.errors import UserError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.byte_stream import byte_pieces
from megatron_style_data.readers.cluecorpus import NAMES, looks_like_cluecorpus
from megatron_style_data.readers.counters import ReadCounters
from megatron_style_data.readers.encodings import encoding_of
from megatron_style_data.readers.input_file import InputFile
from megatron_style_data.readers.json_array import ARRAY_START
from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.registry import CONTAINERS, reader_name
from megatron_style_data.readers.schemas import schema_of

_FIRST_RECORDS = 16
_PROBING = ReadOptions(max_document_bytes=1 << 25, max_bad=16)
_START_BYTES = 1 << 16
# Folders above a file whose names may say the corpus.
_FOLDERS_THAT_TELL = 3


class Recognised(NamedTuple):
    """A key of ``READERS``, and why, in words."""

    format: str
    why: str


def recognise(path: Path, named: str | None) -> Recognised | None:
    """Finds the reader of a file.

    Args:
        path: The file.
        named: The format its name's ending says: ``jsonl``, ``text``, ``parquet`` or None.

    Returns:
        The reader; the one its ending says where its content says nothing (it is empty, damaged, or not to be read,
        which reading it will tell). None where neither says anything.
    """
    start = _start_of(path)
    if named == "text":
        return _text_reader(path, start)
    container = container_of(start) or named
    if container is None:
        return None
    records = list(_first_records(path, container))
    schema, why = schema_of(records, _name_that_tells(path))
    about = CONTAINERS[container].about
    return Recognised(reader_name(container, schema), f"{about}; {why}" if start else "by its name")


def container_of(start: bytes) -> str | None:
    """How records lie in a file that begins so; None if that is not to be seen."""
    if start.startswith(b"PAR1"):
        return "parquet"
    if ARRAY_START.match(start):
        return "json"
    return "jsonl" if start.lstrip().startswith(b"{") else None


def container_or_lines(path: Path) -> str:
    """How records lie in a file of a known corpus; JSON lines where that is not to be seen."""
    return container_of(_start_of(path)) or "jsonl"


def _text_reader(path: Path, start: bytes) -> Recognised:
    named = NAMES.search(_name_that_tells(path))
    if named and looks_like_cluecorpus(start.decode(encoding_of(path, "auto"), "replace")):
        return Recognised("cluecorpus", "the name says CLUECorpus, and there is a sentence a line")
    return Recognised("text", "by its name")


def _first_records(path: Path, container: str) -> Iterator[dict[str, Any]]:
    file = InputFile(path, path.name, container)
    bad = BadDocuments(file, _PROBING, ReadCounters(), encoding_of(path, "auto"))
    try:
        for _, record, _ in islice(CONTAINERS[container].records(bad), _FIRST_RECORDS):
            yield record
    except UserError:  # reading the file will say what is wrong with it
        return


def _start_of(path: Path) -> bytes:
    start = b""
    try:
        for piece in byte_pieces(path):
            start += piece
            if len(start) >= _START_BYTES:
                break
    except UserError:  # the same
        return b""
    return start[:_START_BYTES]


def _name_that_tells(path: Path) -> str:
    return "/".join(path.absolute().parts[-1 - _FOLDERS_THAT_TELL :]).lower()
