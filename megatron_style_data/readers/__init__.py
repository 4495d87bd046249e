"""Readers: files of a corpus in, normalised documents out, everything dropped counted and located.

A new format is one function from ``BadDocuments`` to (place, text) and one line in ``READERS`` (and its file endings in
``inputs.py``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from megatron_style_data.document import Document
from megatron_style_data.errors import BadDataError
from megatron_style_data.normalize import normalize
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.counters import DROP_REASONS, ReadCounters
from megatron_style_data.readers.inputs import FORMATS, InputFile, expand_inputs
from megatron_style_data.readers.jsonl import read_jsonl
from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.parquet import read_parquet
from megatron_style_data.readers.text import read_text

Reader = Callable[[BadDocuments], Iterator[tuple[int, str]]]

READERS: Mapping[str, Reader] = MappingProxyType({"jsonl": read_jsonl, "text": read_text, "parquet": read_parquet})


def read_documents(file: InputFile, options: ReadOptions, counters: ReadCounters) -> Iterator[Document]:
    """Yields the documents of one file, normalised, in the file's order and with bounded memory.

    Args:
        file: The file.
        options: How to read it.
        counters: Counts what is handed out, changed and dropped while it happens.

    Raises:
        MissingInputError: The file does not exist.
        StorageError: It cannot be read.
        BadDataError: It is cut, damaged or has no text field, or a bad document is refused.
    """
    for place, raw in READERS[file.format](BadDocuments(file, options, counters)):
        normalized = normalize(raw)
        text = normalized.text
        if not text.strip():
            counters.drop("empty", f"{file.path}, {_unit(file)} {place}: no text but spaces")
            continue
        counters.keep(len(text.encode("utf-8")), normalized.changes)
        yield Document(text, file.source, str(file.path), place)


def read_corpus(files: Sequence[InputFile], options: ReadOptions, counters: ReadCounters) -> Iterator[Document]:
    """Yields the documents of all files; raises at the end if there was none.

    Raises:
        BadDataError: No document was left. Also what ``read_documents`` raises.
    """
    before = counters.documents
    for file in files:
        yield from read_documents(file, options, counters)
    if counters.documents == before:
        refuse_empty_corpus(files, counters)


def refuse_empty_corpus(files: Sequence[InputFile], counters: ReadCounters) -> None:
    """Raises the error for a corpus in which no document was found.

    Raises:
        BadDataError: Always; names the files and what was dropped.
    """
    named = ", ".join(str(file.path) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    why = "; ".join(counters.dropped_in_words())
    dropped = f"dropped: {why}" if why else "nothing was dropped, so there was nothing in it"
    raise BadDataError(f"{named}: the corpus is empty, not one document was found ({dropped}).")


def _unit(file: InputFile) -> str:
    return "row" if file.format == "parquet" else "line"


__all__ = [
    "DROP_REASONS",
    "FORMATS",
    "READERS",
    "Document",
    "InputFile",
    "ReadCounters",
    "ReadOptions",
    "Reader",
    "expand_inputs",
    "read_corpus",
    "read_documents",
    "refuse_empty_corpus",
]
