"""Reading as a whole: normalised documents, counters that add up, and no empty corpus."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import (
    DROP_REASONS,
    READERS,
    Document,
    ReadCounters,
    ReadOptions,
    expand_inputs,
    read_corpus,
)
from megatron_style_data.readers.counters import FIRST_PLACES
from megatron_style_data.readers.inputs import FORMATS, FORMATS_BY_ENDING
from megatron_style_data.readers.registry import CONTAINERS
from megatron_style_data.readers.schemas import SCHEMAS

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]
Lines = Callable[..., str]


def test_every_format_has_a_reader() -> None:
    assert set(FORMATS) - {"auto", *SCHEMAS} <= set(READERS)
    assert set(FORMATS_BY_ENDING.values()) <= set(FORMATS)
    for schema in SCHEMAS:
        assert schema in FORMATS
        assert {f"{schema}.{container}" for container in CONTAINERS} <= set(READERS)


def test_documents_are_normalised_and_their_bytes_counted(write: Write, read: Read, lines: Lines) -> None:
    documents, counters = read(write("a.jsonl", lines({"text": "村\r\n\x00民\ufeff"}, {"text": "é"})))
    assert [document.text for document in documents] == ["村\n民", "é"]
    assert counters == ReadCounters(
        documents=2, utf8_bytes=9, changes={"line_ends": 1, "control_characters": 1, "byte_order_marks": 1}
    )


def test_a_document_without_text_is_dropped_and_counted(write: Write, read: Read, lines: Lines) -> None:
    path = write("a.jsonl", lines({"text": ""}, {"text": " \u3000\n"}, {"text": "\x00"}, {"text": "a"}))
    documents, counters = read(path, on_bad="refuse")
    assert [document.place for document in documents] == [4]
    assert counters.dropped == {"empty": 3}
    assert counters.first_places["empty"][0] == f"{path}, line 1: no text but spaces"


def test_only_the_first_places_are_kept(write: Write, read: Read, lines: Lines) -> None:
    path = write("a.jsonl", lines(*({"text": ""} for _ in range(50))))
    _, counters = read(path)
    assert counters.dropped == {"empty": 50}
    assert [place.split(": ")[0] for place in counters.first_places["empty"]] == [
        f"{path}, line {number}" for number in range(1, FIRST_PLACES + 1)
    ]


def test_counters_of_parts_add_up_and_travel_between_processes() -> None:
    first, second = ReadCounters(), ReadCounters()
    first.keep(3, {"line_ends": 1})
    first.drop("empty", "a, line 1: x")
    second.keep(4, {"line_ends": 2, "surrogates": 1})
    for number in range(6):
        second.drop("empty", f"b, line {number}: x")
    second.drop("not_json", "b, line 9: y")
    total = ReadCounters()
    total.add(first)
    total.add(pickle.loads(pickle.dumps(second)))
    assert (total.documents, total.utf8_bytes) == (2, 7)
    assert total.changes == {"line_ends": 3, "surrogates": 1}
    assert total.dropped == {"empty": 7, "not_json": 1}
    assert total.first_places["empty"] == ["a, line 1: x", *(f"b, line {number}: x" for number in range(4))]
    assert total.dropped_in_words() == ["7 empty, first: a, line 1: x", "1 not JSON, first: b, line 9: y"]
    assert first.first_places == {"empty": ["a, line 1: x"]}


def test_the_files_of_a_corpus_are_read_in_order(tmp_path: Path, write: Write, lines: Lines) -> None:
    write("data/b.txt", "second")
    write("data/a.jsonl", lines({"text": "first"}))
    counters = ReadCounters()
    documents = list(read_corpus(expand_inputs([tmp_path / "data"]), ReadOptions(), counters))
    assert [(document.source, document.text) for document in documents] == [("a.jsonl", "first"), ("b.txt", "second")]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"\(nothing was dropped, so there was nothing in it\)"),
        (b'{"text": ""}\n{"text": ""}\n{\n', r"\(dropped: 2 empty, first: .*line 1: .*; 1 not JSON, first: .*line 3: "),
        ("{'text': '村'}\n".encode("gb18030"), r"\(dropped: 1 invalid UTF-8, first: .*line 1: byte 11 is"),
    ],
)
def test_an_empty_corpus_is_refused_with_what_was_dropped(content: bytes, why: str, write: Write) -> None:
    files = expand_inputs([write("a.jsonl", content)])
    with pytest.raises(BadDataError, match=r"a\.jsonl: the corpus is empty, not one document was found " + why):
        list(read_corpus(files, ReadOptions(), ReadCounters()))


def test_an_empty_corpus_of_many_files_names_the_first(tmp_path: Path, write: Write) -> None:
    for name in "abcde":
        write(f"data/{name}.txt", "")
    with pytest.raises(BadDataError, match=r"a\.txt, .*b\.txt, .*c\.txt and 2 more: the corpus is empty"):
        list(read_corpus(expand_inputs([tmp_path / "data"]), ReadOptions(), ReadCounters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad": "warn"}, "on_bad 'warn' is not known; choose skip or refuse"),
        ({"text_documents": "line"}, "text_documents 'line' is not known; choose file or blank-line"),
        ({"max_document_bytes": 0}, "max_document_bytes 0 is not positive"),
        ({"text_field": ""}, "text_field is empty"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ReadOptions(**options)


def test_every_reason_has_words() -> None:
    assert all(DROP_REASONS.values())
