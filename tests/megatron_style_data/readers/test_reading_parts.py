"""A file read in parts gives the documents it gives as a whole, whatever its corpus and wherever it is cut."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from megatron_style_data.readers import READERS, ReadCounters, ReadOptions, expand_inputs, read_documents
from megatron_style_data.readers.parts import FilePart

Write = Callable[[str, bytes | str], Path]

CORPORA: dict[str, list[dict[str, Any]]] = {
    "jsonl": [{"content": None}, *({"content": f"第{n}行", "text": None if n < 3 else "x"} for n in range(9))],
    "cci.jsonl": [{"id": str(number), "content": f"第{number}行"} for number in range(9)],
    "mnbvc.jsonl": [{"文件名": str(n), "段落": [{"行号": 1, "内容": f"第{n}行"}]} for n in range(9)],
    "smoltalk_chinese.jsonl": [{"messages": [{"role": "user", "content": str(number)}]} for number in range(9)],
}


def texts_of(path: Path, part: FilePart | None = None) -> list[tuple[str, dict[str, Any]]]:
    (file,) = expand_inputs([path])
    documents = read_documents(replace(file, part=part), ReadOptions(), ReadCounters())
    return [(document.text, dict(document.fields)) for document in documents]


@pytest.mark.parametrize("format", CORPORA)
def test_lines_in_parts_are_the_lines_of_the_whole(format: str, write: Write) -> None:
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in CORPORA[format])
    path = write("a.jsonl", content)
    size = path.stat().st_size
    (file,) = expand_inputs([path])
    assert (file.format, READERS[file.format].parts) == (format, "lines")
    for length in (size // 2, size // 5, 10):
        parts = [FilePart(start, min(start + length, size)) for start in range(0, size, length)]
        assert [text for part in parts for text in texts_of(path, part)] == texts_of(path)


def test_row_groups_in_parts_are_the_rows_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"id": [str(number) for number in range(20)], "content": [f"第{n}行" for n in range(20)]})
    pyarrow.parquet.write_table(table, path, row_group_size=3)
    (file,) = expand_inputs([path])
    assert (file.format, READERS[file.format].parts) == ("cci.parquet", "row_groups")
    parts = [FilePart(0, 2), FilePart(2, 5), FilePart(5, 7)]
    assert [text for part in parts for text in texts_of(path, part)] == texts_of(path)
    in_part = read_documents(replace(file, part=parts[1]), ReadOptions(), ReadCounters())
    assert next(in_part).place == 7  # rows are numbered in the whole file
