"""GB18030 is told from UTF-8, said, and read on request."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import Document, ReadCounters, ReadOptions
from megatron_style_data.readers.encodings import encoding_of, reads_as_gb18030

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]

TEXT = "老树在村口站了三百年，村里人都在树下乘凉。“好！”"


def test_gb18030_is_recognised_and_other_bytes_are_not() -> None:
    data = TEXT.encode("gb18030")
    assert reads_as_gb18030(data)
    assert reads_as_gb18030(data[:-1])  # the last character cut off
    assert not reads_as_gb18030(TEXT.encode())
    assert not reads_as_gb18030(TEXT.encode()[:-1] + b"\xff")
    assert not reads_as_gb18030("été à Orléans".encode("latin-1"))
    assert not reads_as_gb18030(bytes(range(128, 256)))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_a_file_is_judged_by_its_beginning(name: str, write: Write) -> None:
    assert encoding_of(write(name, (TEXT * 9_000).encode("gb18030")), "auto") == "gb18030"
    assert encoding_of(write(name, (TEXT * 9_000)), "auto") == "utf-8"
    assert encoding_of(write(name, b"\xff\xfe\xfd\xfc"[1:] * 9), "auto") == "utf-8"
    assert encoding_of(write(name, b""), "auto") == "utf-8"
    assert encoding_of(write(name, TEXT), "gb18030") == "gb18030"


@pytest.mark.parametrize("encoding", ["gb18030", "auto"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json"])
def test_it_is_decoded_on_request(name: str, encoding: str, write: Write, read: Read) -> None:
    records = [{"text": TEXT}, {"text": TEXT + "𠮷㐀"}]  # four bytes in GB18030
    texts = {
        "a.txt": TEXT,
        "a.jsonl": "\n".join(json.dumps(record, ensure_ascii=False) for record in records),
        "a.json": json.dumps(records, ensure_ascii=False),
    }
    documents, counters = read(write(name, texts[name].encode("gb18030")), encoding=encoding)
    expected = [TEXT] if name == "a.txt" else [record["text"] for record in records]
    assert [document.text for document in documents] == expected
    assert counters.changes == {"from_gb18030": len(expected)}


def test_without_the_request_it_is_said_what_it_is(write: Write, read: Read) -> None:
    path = write("a.txt", TEXT.encode("gb18030"))
    _, counters = read(path)
    assert counters.first_places == {
        "invalid_utf8": [f"{path}, line 1: byte 1 is 0xc0, which is not UTF-8, but all of it reads as GB18030"]
    }
    with pytest.raises(BadDataError, match=r"the option encoding gb18030 reads it, iconv -f GB18030 -t UTF-8"):
        read(path, on_bad="refuse")


def test_what_is_not_gb18030_either_is_counted(write: Write, read: Read) -> None:
    path = write("a.jsonl", b'{"text": "\xff\xff"}\n')
    _, counters = read(path, encoding="gb18030")
    assert counters.first_places == {"invalid_gb18030": [f"{path}, line 1: byte 11 is 0xff, which is not GB18030"]}
    with pytest.raises(BadDataError, match="expected GB18030, as the option encoding says"):
        read(path, encoding="gb18030", on_bad="refuse")


def test_an_encoding_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingError, match=r"encoding 'big5' is not known; choose utf-8, gb18030 or auto"):
        ReadOptions(encoding="big5")  # type: ignore[arg-type]
