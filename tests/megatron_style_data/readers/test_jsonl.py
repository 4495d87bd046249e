"""JSON Lines: the text field is found, and each kind of bad line is counted with its place or refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers import Document, ReadCounters

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]
Lines = Callable[..., str]

GOOD = b'{"text": "\xe6\x9d\x91"}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_each_object_is_a_document_with_its_line_number(name: str, write: Write, read: Read, lines: Lines) -> None:
    path = write(name, lines({"text": "村民"}, {"id": 2, "text": "高兴\n很"}))
    documents, counters = read(path)
    second = Document("高兴\n很", name, str(path), 2, {"id": 2})
    assert documents == [Document("村民", name, str(path), 1), second]
    assert counters == ReadCounters(documents=2, utf8_bytes=16)


def test_content_is_found_where_there_is_no_text(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("a.jsonl", lines({"title": "t", "content": "村"})))
    assert [document.text for document in documents] == ["村"]


def test_text_comes_before_content_and_a_string_before_another_type(write: Write, read: Read, lines: Lines) -> None:
    assert read(write("a.jsonl", lines({"content": "b", "text": "a"})))[0][0].text == "a"
    assert read(write("b.jsonl", lines({"content": "b", "text": 7})))[0][0].text == "b"


def test_any_field_can_be_named(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("a.jsonl", lines({"text": "no", "正文": "yes"})), text_field="正文")
    assert [(document.text, document.fields) for document in documents] == [("yes", {"other_text": "no"})]


def test_no_text_field_names_file_line_fields_and_option(write: Write, read: Read, lines: Lines) -> None:
    path = write("a.jsonl", "\n" + lines({"title": "t", "score": 1}))
    with pytest.raises(
        BadDataError,
        match=r"a\.jsonl, line 2: no text field 'text' or 'content'; fields found: 'title', 'score' \(not a string\)\. "
        r"Name the field that holds the text: --text-field NAME\.",
    ):
        read(path)
    with pytest.raises(BadDataError, match="no text field 'body'; fields found: 'title'"):
        read(path, text_field="body")
    with pytest.raises(BadDataError, match="fields found: none"):
        read(write("b.jsonl", "{}\n"))


def test_a_null_in_the_first_object_leaves_the_choice_to_the_next(write: Write, read: Read, lines: Lines) -> None:
    documents, counters = read(write("a.jsonl", lines({"content": None}, {"content": "b"})))
    assert [document.text for document in documents] == ["b"]
    assert counters.dropped == {"no_text": 1}


def test_blank_lines_carriage_returns_and_a_byte_order_mark_are_no_documents(write: Write, read: Read) -> None:
    path = write("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\r\n   \n{"text": "b"}')
    documents, counters = read(path)
    assert [(document.text, document.place) for document in documents] == [("a", 1), ("b", 4)]
    assert counters.dropped == {}


def test_an_escaped_surrogate_pair_is_one_character_and_a_lone_one_goes(write: Write, read: Read) -> None:
    documents, counters = read(write("a.jsonl", '{"text": "\\ud83d\\ude00 \\ud83d"}\n'))
    assert documents[0].text == "😀 "
    assert counters.changes == {"surrogates": 1}


BAD_LINES: list[tuple[str, bytes, str]] = [
    ("invalid_utf8", b'{"text": "\xb4\xe5"}', r"byte 11 is 0xb4, which is not UTF-8"),
    ("not_json", b'{"text": ', r"not JSON \(Expecting value: line 1 column 10"),
    ("not_json", b'"text"', r"a JSON str, not an object"),
    ("not_json", b"[" * 100_000, r"not JSON \(maximum recursion depth"),
    ("no_text", b'{"text": null}', r"field 'text' is null, not a string"),
    ("no_text", b'{"text": ["a"]}', r"field 'text' is \[\"a\"\], not a string"),
    ("no_text", b'{"title": "a"}', r"no field 'text' \(found: 'title'\)"),
    ("too_long", b'{"text": "' + b"x" * 200_000 + b'"}', r"more than 150000 bytes"),
]


@pytest.mark.parametrize(("reason", "line", "found"), BAD_LINES)
def test_a_bad_line_is_counted_with_its_place(reason: str, line: bytes, found: str, write: Write, read: Read) -> None:
    path = write("a.jsonl", GOOD + line + b"\n" + GOOD)
    documents, counters = read(path, max_document_bytes=150_000)
    assert [document.place for document in documents] == [1, 3]
    assert counters.dropped == {reason: 1}
    (place,) = counters.first_places[reason]
    assert place.startswith(f"{path}, line 2: ")
    assert re.search(found, place)


@pytest.mark.parametrize(("reason", "line", "found"), BAD_LINES)
def test_a_bad_line_is_refused_on_request(reason: str, line: bytes, found: str, write: Write, read: Read) -> None:
    path = write("a.jsonl", GOOD + line + b"\n" + GOOD)
    with pytest.raises(
        BadDataError, match=rf"a\.jsonl, line 2: {found}.*; expected .*\. Repair it, or skip .*on_bad=skip"
    ):
        read(path, max_document_bytes=150_000, on_bad="refuse")


def test_a_file_in_gb18030_gets_the_command_that_converts_it(write: Write, read: Read) -> None:
    content = json.dumps({"text": "村民们"}, ensure_ascii=False).encode("gb18030")
    with pytest.raises(BadDataError, match="iconv -f GB18030 -t UTF-8"):
        read(write("a.jsonl", content), on_bad="refuse")


def test_a_json_array_asked_for_as_lines_is_told_from_them(
    write: Write, read_into: Callable[..., list[Document]]
) -> None:
    with pytest.raises(
        BadDataError, match=r"a\.json: begins with '\[', so it is a JSON array; .*the format json reads"
    ):
        read_into(write("a.json", '[\n{"text": "a"}\n]'), ReadCounters())


def test_the_counters_hold_what_was_read_before_a_refusal(
    write: Write, read_into: Callable[..., list[Document]], lines: Lines
) -> None:
    counters = ReadCounters()
    path = write("a.jsonl", lines({"text": "a"}, {"text": "b"}) + "{")
    with pytest.raises(BadDataError):
        read_into(path, counters, on_bad="refuse")
    assert counters.documents == 2


def test_long_files_are_read_line_by_line(write: Write, read: Read) -> None:
    records: list[dict[str, Any]] = [{"text": f"{number}村" * 50} for number in range(5_000)]
    path = write("a.jsonl.zst", "".join(json.dumps(record) + "\n" for record in records))
    documents, _ = read(path)
    assert [document.text for document in documents] == [record["text"] for record in records]


def test_fields_nested_a_thousand_deep_end_at_a_hundred(write: Write, read: Read) -> None:
    documents, counters = read(write("a.jsonl", '{"text": "天下", "a": ' + "[" * 1000 + "]" * 1000 + "}"))
    assert [document.text for document in documents] == ["天下"]
    assert str(documents[0].fields["a"]) == "[" * 98 + "[None]" + "]" * 98
    assert counters.dropped == {}
