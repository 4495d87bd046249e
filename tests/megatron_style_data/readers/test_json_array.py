"""JSON arrays are read item by item: the same items however the bytes come, in bounded memory."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers import Document, ReadCounters
from megatron_style_data.readers.json_array import ArrayItems

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},: 村\n\u2028', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\]', max_size=3), inner, max_size=3),
    max_leaves=12,
)


def items_of(content: bytes, cuts: list[int], longest: int = 1 << 20) -> list[bytes | None]:
    items = ArrayItems(longest)
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    found = [item for begin, end in itertools.pairwise(edges) for item in items.feed(content[begin:end])]
    assert items.closed
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(JSON, max_size=5), st.booleans(), st.sampled_from([None, 1]), st.lists(st.integers(0, 10_000), max_size=6)
)
def test_items_are_those_that_json_finds(
    values: list[Any], ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    content = json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode()
    assert [json.loads(item or b"") for item in items_of(content[1:], cuts)] == values


def test_a_backslash_at_a_cut_still_escapes() -> None:
    content = rb'"a\\", "b\"]", {"c": "\\\""}]'
    for cut in range(len(content)):
        assert items_of(content, [cut, cut]) == [rb'"a\\"', rb'"b\"]"', rb'{"c": "\\\""}']


def test_an_item_that_is_too_long_is_passed_over() -> None:
    content = b'{"a": 1}, {"b": "' + b"x" * 100 + b'"}, {"c": 3}]'
    assert items_of(content, [5, 20, 40, 60], longest=20) == [b'{"a": 1}', None, b'{"c": 3}']


def test_bad_items_are_counted_by_number_and_the_others_read(write: Write, read: Read) -> None:
    content = '[{"text": "一"}, {"text": }, 5, {"text": "' + "x" * 3000 + '"}, {"text": "二"},]'
    path = write("a.json", content)
    documents, counters = read(path, max_document_bytes=2000)
    assert [(document.place, document.text) for document in documents] == [(1, "一"), (5, "二")]
    assert counters.dropped == {"not_json": 2, "too_long": 1}
    assert counters.first_places["not_json"][1] == f"{path}, item 3: a JSON int, not an object"
    assert counters.first_places["too_long"] == [f"{path}, item 4: more than 2000 bytes"]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.zst"])
@pytest.mark.parametrize(
    "content", ['[{"text": "一"}, {"text": "二"}', '[{"text": "一"}, {"text": "二', '[{"text": "一"},']
)
def test_an_array_that_is_cut_off_is_refused_by_name(name: str, content: str, write: Write, read: Read) -> None:
    with pytest.raises(BadDataError, match=r"a\.json.*: the JSON array is cut off after item \d; get the whole file"):
        read(write(name, content))


def test_what_follows_the_array_is_counted(write: Write, read: Read) -> None:
    documents, counters = read(write("a.json", '[{"text": "一"}]\n[{"text": "二"}]'))
    assert len(documents) == 1
    assert 'item 2: b\'[{"text":' in counters.first_places["not_json"][0]
    assert read(write("b.json", '{"RECORDS": [{"text": "一"}] }\n'))[1].dropped == {}


def test_lines_asked_for_as_an_array_are_told_from_one(write: Write, read: Read) -> None:
    with pytest.raises(
        BadDataError, match=r"a\.json: begins with b'\{\"text.*; expected a JSON array, .* format jsonl"
    ):
        read(write("a.json", '{"text": "一"}\n'), format="json")


def test_invalid_bytes_spoil_one_item_alone_in_utf8_and_gb18030(write: Write, read: Read) -> None:
    good = json.dumps({"text": "村民们都很高兴"}, ensure_ascii=False)
    for encoding in ("utf-8", "gb18030"):
        data = good.encode(encoding)
        path = write(f"{encoding}.json", b"[" + data + b', {"text": "\xff\xff"}, ' + data + b"]")
        documents, counters = read(path, encoding=encoding)
        assert [document.place for document in documents] == [1, 3]
        assert counters.dropped == {f"invalid_{encoding.replace('-', '')}": 1}
