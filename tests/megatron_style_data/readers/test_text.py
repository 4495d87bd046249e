"""Text files: one document a file, or one a block between blank lines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers import Document, ReadCounters

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]


def found(documents: list[Document]) -> list[tuple[int, str]]:
    return [(document.place, document.text) for document in documents]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_a_file_is_one_document(name: str, write: Write, read: Read) -> None:
    documents, _ = read(write(name, "第一\r\n\r\n第二\n"))
    assert found(documents) == [(1, "第一\n\n第二\n")]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_blank_lines_part_documents_on_request(name: str, write: Write, read: Read) -> None:
    content = "\n\n第一\n　　续\n\n \u3000\t\r\n第二\r\n续\n\n\n"
    documents, counters = read(write(name, content), text_documents="blank-line")
    assert found(documents) == [(3, "第一\n　　续"), (7, "第二\n续")]
    assert counters.dropped == {}


def test_the_last_document_needs_no_line_end(write: Write, read: Read) -> None:
    assert found(read(write("a.txt", "a\n\nb"), text_documents="blank-line")[0]) == [(1, "a"), (3, "b")]


def test_a_byte_order_mark_is_no_text(write: Write, read: Read) -> None:
    documents, counters = read(write("a.txt", b"\xef\xbb\xbfa"))
    assert found(documents) == [(1, "a")]
    assert counters.changes == {}


def test_invalid_utf8_is_located_by_line_and_byte(write: Write, read: Read) -> None:
    path = write("a.txt", b"a\nb\n\xe6\x9d\x91\xb4\n")
    documents, counters = read(path)
    assert documents == []
    assert counters.first_places == {"invalid_utf8": [f"{path}, line 3: byte 4 is 0xb4, which is not UTF-8"]}
    with pytest.raises(
        BadDataError, match=r"a\.txt, line 3: byte 4 is 0xb4, which is not UTF-8; expected UTF-8 \(a Ch"
    ):
        read(path, on_bad="refuse")


def test_only_the_block_with_invalid_utf8_is_dropped(write: Write, read: Read) -> None:
    path = write("a.txt", b"a\n\nb\nb\xff\n\nc\n")
    documents, counters = read(path, text_documents="blank-line")
    assert found(documents) == [(1, "a"), (6, "c")]
    assert counters.first_places == {"invalid_utf8": [f"{path}, line 4: byte 2 is 0xff, which is not UTF-8"]}


def test_a_document_that_is_too_long_is_dropped_and_memory_stays_bounded(write: Write, read: Read) -> None:
    path = write("a.txt", "a\n\n" + "bbb\n" * 10 + "\n" + "c" * 10 + "\n\n" + "d" * 11 + "\n\ne\n")
    documents, counters = read(path, text_documents="blank-line", max_document_bytes=10)
    assert found(documents) == [(1, "a"), (14, "c" * 10), (18, "e")]
    assert counters.first_places["too_long"] == [
        f"{path}, line 3: a document of more than 10 bytes",
        f"{path}, line 16: a document of more than 10 bytes",
    ]
    documents, counters = read(path, max_document_bytes=10)
    assert documents == []
    assert counters.first_places["too_long"] == [f"{path}, line 1: a file of more than 10 bytes as one document"]
    with pytest.raises(BadDataError, match=r"as one document; expected a shorter document \(max_document_bytes;"):
        read(path, max_document_bytes=10, on_bad="refuse")


def test_a_file_of_spaces_is_counted_as_empty(write: Write, read: Read) -> None:
    path = write("a.txt", " \u3000\n\n")
    documents, counters = read(path)
    assert documents == []
    assert counters.first_places == {"empty": [f"{path}, line 1: no text but spaces"]}
