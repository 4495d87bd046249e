"""Parquet: the text column is found and streamed, and bad rows are counted with their number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.readers import Document, InputFile, ReadCounters, ReadOptions, read_documents

Read = Callable[..., tuple[list[Document], ReadCounters]]


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("type", [pyarrow.string(), pyarrow.large_string(), pyarrow.binary()])
@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_rows_are_documents_in_order(type: pyarrow.DataType, compression: str, tmp_path: Path, read: Read) -> None:
    texts = [f"第{number}行" for number in range(2500)]
    column = pyarrow.array(texts).cast(type)
    path = write_parquet(
        tmp_path / "a.parquet", {"id": range(2500), "text": column}, row_group_size=700, compression=compression
    )
    documents, counters = read(path)
    assert [document.text for document in documents] == texts
    assert [document.place for document in documents] == list(range(1, 2501))
    assert counters.documents == 2500


def test_content_is_found_and_any_column_can_be_named(tmp_path: Path, read: Read) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"content": ["a"], "body": ["b"]})
    assert read(path)[0][0].text == "a"
    assert read(path, text_field="body")[0][0].text == "b"


def test_no_text_column_names_the_columns_and_the_option(tmp_path: Path, read: Read) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"title": ["a"], "text": [1]})
    with pytest.raises(
        BadDataError, match=r"a\.parquet, row 1: no text field 'text' or 'content'; fields found: 'title', "
    ):
        read(path)


def test_nulls_and_invalid_utf8_are_counted_by_row(tmp_path: Path, read: Read) -> None:
    column = pyarrow.array([b"a", None, b"\xb4\xe5", b"b"], pyarrow.binary())
    path = write_parquet(tmp_path / "a.parquet", {"text": column})
    documents, counters = read(path)
    assert [document.place for document in documents] == [1, 4]
    assert counters.first_places == {
        "no_text": [f"{path}, row 2: field 'text' is null, not a string"],
        "invalid_utf8": [f"{path}, row 3: byte 1 is 0xb4, which is not UTF-8, but all of it reads as GB18030"],
    }
    with pytest.raises(
        BadDataError, match=r"row 2: field 'text' is null, not a string; expected a string\. Repair it, or skip"
    ):
        read(path, on_bad="refuse")


def test_a_column_that_lies_about_being_utf8_is_checked(tmp_path: Path, read: Read) -> None:
    lying = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xb4\xe5")]
    )
    documents, counters = read(write_parquet(tmp_path / "a.parquet", {"text": lying}))
    assert documents == []
    assert counters.dropped == {"invalid_utf8": 1}


def test_a_row_that_is_too_long_is_counted(tmp_path: Path, read: Read) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a" * 11, "b"]})
    documents, counters = read(path, max_document_bytes=10)
    assert [document.text for document in documents] == ["b"]
    assert counters.first_places == {"too_long": [f"{path}, row 1: more than 10 bytes"]}


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused_by_name(left: float, tmp_path: Path, read: Read) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": [str(number) for number in range(10_000)]})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    with pytest.raises(BadDataError, match=r"a\.parquet: is not a whole Parquet file \(.+\); get the file again"):
        read(path)


def test_damaged_pages_are_refused_by_name(tmp_path: Path, read: Read) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": [str(number) for number in range(10_000)]})
    data = bytearray(path.read_bytes())
    data[100:2000] = b"\xff" * 1900
    path.write_bytes(data)
    with pytest.raises(BadDataError, match=r"a\.parquet: is not a whole Parquet file"):
        read(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    file = InputFile(tmp_path / "gone.parquet", "gone.parquet", "parquet")
    with pytest.raises(MissingInputError, match=r"gone\.parquet: no such file"):
        list(read_documents(file, ReadOptions(), ReadCounters()))
