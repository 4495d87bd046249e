"""Texts in batches are those of the documents, whatever the lines hold: the same texts, counts, places and errors."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import UserError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, read_documents
from megatron_style_data.readers.parts import FilePart
from megatron_style_data.readers.text_batches import MOST_DOCUMENTS, read_text_batches

TEXTS = st.sampled_from(
    [
        "天下大势，分久必合。",
        "a",
        "",
        " \n\u3000",
        "\u200b",
        "\ufeff",
        "e\u0301",
        "\r\n行\r",
        "\x00",
        "Å",
        "か\u3099",
        "𠮷😀",
        "x" * 40,
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, -1, 1 << 53, 1 << 63, 1 << 64, 10**30, 0.5, 1e300, -1e19]) | TEXTS,
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(TEXTS, inside, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["text", "content", "id", "meta_info", "score"])
RECORDS = st.dictionaries(NAMES, TEXTS | VALUES, min_size=1, max_size=3) | st.fixed_dictionaries({"text": TEXTS})
WRITTEN = st.builds(lambda record, plainly: json.dumps(record, ensure_ascii=plainly).encode(), RECORDS, st.booleans())


def nested(value: bytes) -> bytes:
    return b'{"text": "a", "n": ' + b"[" * 1010 + value + b"]" * 1010 + b"}"


# Lines that are read another way than the library reads them, that are bad, or that only together would be JSON.
ODD_LINES = st.sampled_from(
    [
        b"", b" ", b"\t", b"[", b"[]", b"{}", b"{", b"null", b"1", b'"text"', b'{"text": "a"},{"text": "b"}', b'{"text": "a"',
        b'"text": "b"}', b'{"text": "a", "text": "b"}', b'{"text": NaN}', b'{"text": "a", "n": Infinity}', b"\xff",
        b'{"text": "\xff"}', b'{"text": "a\tb\x00"}', b'{"text": "\\ud83d"}', b'{"text": "\\ud83d\\ude00"}',
        b'\xef\xbb\xbf{"text": "a"}', b'{"text": "a", "n": 1e400}', b'{"text": "a", "n": 123456789012345678901234567890}',
        b'{"text": "a"}\r', b'  {"text": "a"}  ', b"{'text': 'a'}", b'{"text": "a"} x', b'{"text": "' + b"a" * 300 + b'"}',
        nested(b""), nested(b"1e300"), b'[{"text": "a"}]', b"\xc4\xe3\xba\xc3",
    ]
)  # fmt: skip
LINES = st.lists(WRITTEN | WRITTEN | ODD_LINES, max_size=12)
OPTIONS = st.builds(
    ReadOptions,
    on_bad=st.sampled_from(["skip", "skip", "refuse"]),
    max_document_bytes=st.sampled_from([1 << 20, 200, 20]),
    max_bad=st.sampled_from([None, None, 2]),
    text_field=st.sampled_from([None, None, "text", "id"]),
    min_score=st.sampled_from([None, None, 0.5]),
    encoding=st.sampled_from(["utf-8", "utf-8", "auto", "gb18030"]),
)


def by_documents(file: InputFile, options: ReadOptions) -> tuple[list[str], ReadCounters, str]:
    texts, counters = [], ReadCounters()
    try:
        for document in read_documents(file, options, counters):
            texts.append(document.text)
    except UserError as error:
        return texts, counters, f"{type(error)}: {error}"
    return texts, counters, ""


def by_batches(file: InputFile, options: ReadOptions, characters: int) -> tuple[list[str], ReadCounters, str]:
    texts, counters = [], ReadCounters()
    try:
        for batch in read_text_batches(file, options, counters, characters):
            assert batch.texts, "an empty batch"
            assert batch.utf8 == [text.encode() for text in batch.texts]
            texts.extend(batch.texts)
    except UserError as error:
        return texts, counters, f"{type(error)}: {error}"
    return texts, counters, ""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=LINES,
    ends=st.sampled_from([b"\n", b"\r\n"]),
    options=OPTIONS,
    format=st.sampled_from(["jsonl", "jsonl", "cci.jsonl", "skypile.jsonl", "mnbvc.jsonl"]),
    characters=st.sampled_from([1, 20, 1 << 16]),
    cut=st.none() | st.integers(0, 400),
)
@example(
    lines=[b'{"text": "a"},{"text": "b"}', b'{"text": [{}', b'{}], "id": 1}', b'{"text": "c"}'],
    ends=b"\n", options=ReadOptions(), format="jsonl", characters=20, cut=None,
)  # fmt: skip
def test_texts_counts_places_and_errors_are_those_of_the_documents(
    lines: list[bytes], ends: bytes, options: ReadOptions, format: str, characters: int, cut: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ends.join(lines))
    whole = InputFile(path, path.name, format)
    size = path.stat().st_size
    parts = [None] if cut is None else [FilePart(0, min(cut, size)), FilePart(min(cut, size), size)]
    for part in parts:
        file = replace(whole, part=part)
        assert by_batches(file, options, characters) == by_documents(file, options)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_long_files_are_read_the_same_in_pieces(ending: str, write) -> None:
    records = [
        {"text": f"第{number}回" + "天下大势，分久必合。" * (number % 97), "id": number} for number in range(3000)
    ]
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    file = InputFile(write(f"a{ending}", content), "a", "jsonl")
    assert by_batches(file, ReadOptions(), 1 << 16) == by_documents(file, ReadOptions())


@pytest.mark.parametrize("format", ["jsonl", "mnbvc_code.jsonl"])
def test_batches_are_bounded_and_a_long_text_is_one_of_its_own(format: str, write) -> None:
    texts = [*["一" * 400] * 3, "二" * 5000, *["三"] * (MOST_DOCUMENTS + 5)]
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    file = InputFile(write("a.jsonl", content), "a", format)
    batches = list(read_text_batches(file, ReadOptions(), ReadCounters(), 1000))
    assert [(len(batch.texts), len(batch.texts[0])) for batch in batches] == [
        (2, 400), (1, 400), (1, 5000), (1000, 1), (1000, 1), (MOST_DOCUMENTS + 5 - 2000, 1)
    ]  # fmt: skip
    many = list(read_text_batches(file, ReadOptions(), ReadCounters(), 1 << 20))
    assert max(len(batch.texts) for batch in many) == MOST_DOCUMENTS
