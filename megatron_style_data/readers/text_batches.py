"""The texts of documents in batches, for those who need nothing else of them: what ``read_documents`` gives, but faster.

Lines of JSON with the text in one field, which most corpora are, are read without making a document of each line. Whatever
is not the usual case of that goes the way of ``read_documents``, line by line: a line that orjson does not read or reads
in another way, a record without its text, a text that is blank or must be normalised.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import orjson

from megatron_style_data.errors import UserError
from megatron_style_data.normalize import normalize, not_plain
from megatron_style_data.readers import read_documents
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.byte_stream import line_blocks
from megatron_style_data.readers.counters import ReadCounters
from megatron_style_data.readers.encodings import encoding_of
from megatron_style_data.readers.input_file import InputFile
from megatron_style_data.readers.json_records import read_exactly
from megatron_style_data.readers.jsonl import record_of_line
from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.records import OneField
from megatron_style_data.readers.registry import READERS

MOST_DOCUMENTS = 2048


@dataclass(frozen=True)
class TextBatch:
    """Texts that follow each other in a file, normalised and not blank."""

    texts: list[str]

    @cached_property
    def utf8(self) -> list[bytes]:
        """Each text in UTF-8. Made late, because an encoder leaves this form in the strings that it was given."""
        return [text.encode() for text in self.texts]


def read_text_batches(
    file: InputFile, options: ReadOptions, counters: ReadCounters, characters: int
) -> Iterator[TextBatch]:
    """Yields the texts of ``read_documents``, in its order, with its counts and its errors.

    Texts that were read before an error are handed out before it is raised. A batch is counted when the next one is asked
    for.

    Args:
        file: The file.
        options: How to read it.
        counters: Counts what is handed out, changed and dropped.
        characters: Most of a batch; a longer text is a batch of its own. No batch has more than ``MOST_DOCUMENTS`` texts.

    Raises:
        MissingInputError, StorageError, BadDataError: As ``read_documents``.
    """
    field = _one_field(file, options, counters)
    if field is None:
        yield from _of_documents(file, options, counters, characters)
        return
    for batch in _of_lines(field, characters):
        yield batch
        counters.keep_all(len(batch.texts), sum(map(len, batch.utf8)))


def _one_field(file: InputFile, options: ReadOptions, counters: ReadCounters) -> OneField | None:
    """What gives the texts of a file's lines; None where that is not all that there is to a text."""
    make = READERS[file.format].field
    if make is None or options.min_score is not None or encoding_of(file.path, options.encoding) != "utf-8":
        return None
    return make(BadDocuments(file, options, counters, "utf-8"))


def _of_documents(
    file: InputFile, options: ReadOptions, counters: ReadCounters, characters: int
) -> Iterator[TextBatch]:
    texts: list[str] = []
    size = 0
    try:
        for document in read_documents(file, options, counters):
            length = len(document.text)
            if texts and (size + length > characters or len(texts) == MOST_DOCUMENTS):
                yield TextBatch(texts)
                texts, size = [], 0
            texts.append(document.text)
            size += length
    except UserError:
        if texts:
            yield TextBatch(texts)
        raise
    if texts:
        yield TextBatch(texts)


def _of_lines(field: OneField, characters: int) -> Iterator[TextBatch]:
    bad, loads, name = field.bad, orjson.loads, field.name
    texts: list[str] = []
    numbers: list[int] = []
    size = 0
    try:
        for first, lines in line_blocks(bad.file.path, bad.options.max_document_bytes, bad.file.part):
            for number, line in enumerate(lines, first):
                try:
                    record = loads(line)  # type: ignore[arg-type]  # None is not read either
                    text = record[name]
                except (ValueError, LookupError, TypeError):
                    text = None
                if type(text) is not str or (len(record) > 1 and not read_exactly(record)):
                    text = _by_the_way_of_documents(number, line, field)
                    name = field.name
                    if text is None:
                        continue
                length = len(text)
                if texts and (size + length > characters or len(texts) == MOST_DOCUMENTS):
                    yield from _normalized(texts, numbers, bad)
                    texts, numbers, size = [], [], 0
                texts.append(text)
                numbers.append(number)
                size += length
    except UserError:
        yield from _normalized(texts, numbers, bad)
        raise
    yield from _normalized(texts, numbers, bad)


def _by_the_way_of_documents(number: int, line: bytes | None, field: OneField) -> str | None:
    record = record_of_line(number, line, field.bad)
    return None if record is None else field.text_of(number, record, line)


def _normalized(texts: list[str], numbers: list[int], bad: BadDocuments) -> Iterator[TextBatch]:
    """One batch, or none where all texts are blank.

    Args:
        texts: As they were read.
        numbers: The line of each.
        bad: Names the file, and counts.
    """
    blank = [number for number, text in enumerate(texts) if not text or text.isspace()]
    dropped = set()
    for number in sorted({*blank, *not_plain(texts)}):
        found = normalize(texts[number])
        texts[number] = found.text
        if found.text.strip():
            bad.counters.change(found.changes)
        else:
            bad.counters.drop_blank(f"{bad.file.path}, line {numbers[number]}")
            dropped.add(number)
    kept = [text for number, text in enumerate(texts) if number not in dropped] if dropped else texts
    if kept:
        yield TextBatch(kept)
