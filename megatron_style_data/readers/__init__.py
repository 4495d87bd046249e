"""Readers: files of a corpus in, normalised documents out, everything dropped counted and located.

A new corpus is one schema and one line in ``schemas/__init__.py``; a new kind of file is one container in ``registry.py``
(and its endings in ``inputs.py``).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from megatron_style_data.document import Document
from megatron_style_data.errors import BadDataError
from megatron_style_data.normalize import normalize
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.counters import DROP_REASONS, ReadCounters
from megatron_style_data.readers.encodings import encoding_of
from megatron_style_data.readers.input_file import InputFile
from megatron_style_data.readers.inputs import FORMATS, expand_inputs
from megatron_style_data.readers.json_values import json_value
from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.quarantine import start_quarantine
from megatron_style_data.readers.registry import READERS, ReaderSpec

_ALWAYS_UTF8 = (".parquet", ".hf")


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
    reader = READERS[file.format]
    encoding = "utf-8" if f".{file.format}".endswith(_ALWAYS_UTF8) else encoding_of(file.path, options.encoding)
    if options.encoding == "auto" and encoding != "utf-8":
        counters.note(f"{file.path}: read as {encoding.upper()}, as its beginning is no UTF-8")
    converted = {} if encoding == "utf-8" else {f"from_{encoding}": 1}
    for place, raw, fields in reader.read(BadDocuments(file, options, counters, encoding)):
        normalized = normalize(raw)
        text = normalized.text
        where = f"{file.path}, {reader.unit} {place}"
        if not text.strip():
            counters.drop_blank(where)
            continue
        if options.min_score is not None and not _scores(fields, options.min_score, where, counters):
            continue
        counters.keep(len(text.encode("utf-8")), {**normalized.changes, **converted})
        if "text" in fields:  # another field was taken for the text
            fields["other_text"] = fields.pop("text")
        known = {name: value for name, value in json_value(fields).items() if value is not None}
        yield Document(text, file.source, str(file.path), place, known)


def _scores(fields: dict[str, Any], least: float, where: str, counters: ReadCounters) -> bool:
    score = fields.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        counters.drop("no_score", f"{where}: no number in the field 'score'")
        return False
    if not score >= least:  # a NaN is none
        counters.drop("low_score", f"{where}: score {score}")
        return False
    return True


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


__all__ = [
    "DROP_REASONS",
    "FORMATS",
    "READERS",
    "Document",
    "InputFile",
    "ReadCounters",
    "ReadOptions",
    "ReaderSpec",
    "expand_inputs",
    "read_corpus",
    "read_documents",
    "refuse_empty_corpus",
    "start_quarantine",
]
