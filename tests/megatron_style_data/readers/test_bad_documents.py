"""Bad documents are put aside with reason, place and bytes, and stop a reading that has too many."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.readers import (
    Document,
    ReadCounters,
    ReadOptions,
    expand_inputs,
    read_corpus,
    read_documents,
    start_quarantine,
)
from megatron_style_data.readers.quarantine import QUARANTINED_BYTES

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]

CONTENT = b'{"text": "a"}\n{"text": \n{"text": "\xff"}\n{"text": 5}\n{"text": ""}\n' + b"x" * 300 + b"\n"


def read_aside(path: Path, aside: Path, **options: Any) -> list[dict[str, Any]]:
    start_quarantine(aside)
    (file,) = expand_inputs([path])
    list(read_documents(file, ReadOptions(**options), ReadCounters(quarantine=aside)))
    return [json.loads(line) for line in aside.read_text("ascii").splitlines()]


def test_bad_lines_are_put_aside_whole(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", CONTENT)
    entries = read_aside(path, tmp_path / "bad.jsonl", max_document_bytes=200)
    assert [(entry["place"], entry["reason"]) for entry in entries] == [
        ("line 2", "not_json"),
        ("line 3", "invalid_utf8"),
        ("line 4", "no_text"),
        ("line 6", "too_long"),
    ]
    contents = [entry["content_base64"] and base64.b64decode(entry["content_base64"]) for entry in entries]
    assert contents == [b'{"text": ', b'{"text": "\xff"}', b'{"text": 5}', None]
    assert entries[1]["file"] == str(path)
    assert entries[1]["found"] == "byte 11 is 0xff, which is not UTF-8"
    assert [entry["bytes"] for entry in entries] == [9, 13, 11, None]


def test_a_long_bad_line_is_put_aside_in_part(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", b'{"text": "a"}\n' + b"x" * (QUARANTINED_BYTES + 5))
    (entry,) = read_aside(path, tmp_path / "bad.jsonl")
    assert entry["bytes"] == QUARANTINED_BYTES + 5
    assert base64.b64decode(entry["content_base64"]) == b"x" * QUARANTINED_BYTES


def test_a_bad_item_and_row_are_put_aside_too(write: Write, tmp_path: Path) -> None:
    (entry,) = read_aside(write("a.json", '[{"text": "a"}, {"text": 1}]'), tmp_path / "bad1.jsonl")
    assert (entry["place"], base64.b64decode(entry["content_base64"])) == ("item 2", b'{"text": 1}')


def test_a_quarantine_is_never_written_over(tmp_path: Path) -> None:
    start_quarantine(tmp_path / "bad.jsonl")
    with pytest.raises(StorageError, match=r"bad\.jsonl: exists already; name another quarantine file, or move this"):
        start_quarantine(tmp_path / "bad.jsonl")
    with pytest.raises(StorageError, match=r"bad\.jsonl: the quarantine cannot be written: No such file or directory"):
        start_quarantine(tmp_path / "no" / "bad.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the machine has no /dev/full")
def test_a_quarantine_that_cannot_be_written_stops_the_reading(write: Write) -> None:
    (file,) = expand_inputs([write("a.jsonl", CONTENT)])
    with pytest.raises(StorageError, match=r"/dev/full: the quarantine cannot be written: No space left on device"):
        list(read_documents(file, ReadOptions(), ReadCounters(quarantine=Path("/dev/full"))))


def test_more_bad_documents_than_max_bad_stop_the_reading(write: Write, read: Read) -> None:
    path = write("a.jsonl", CONTENT)
    assert read(path, max_bad=4)[1].bad == 4  # the one without text is not bad
    with pytest.raises(
        BadDataError,
        match=r"^3 bad documents, more than max_bad 2: 1 invalid UTF-8, first: .*a\.jsonl, line 3: .*; 1 without a "
        r"text, first: .*line 4: .*; 1 not JSON, first: .*line 2: .*\. Look at these places, repair",
    ):
        read(path, max_bad=2)


def test_max_bad_holds_over_all_files(write: Write, tmp_path: Path) -> None:
    for name in "abc":
        write(f"data/{name}.jsonl", '{"text": "a"}\n{\n')
    files = expand_inputs([tmp_path / "data"])
    assert len(list(read_corpus(files, ReadOptions(max_bad=3), ReadCounters()))) == 3
    with pytest.raises(BadDataError, match="3 bad documents, more than max_bad 2"):
        list(read_corpus(files, ReadOptions(max_bad=2), ReadCounters()))


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(SettingError, match="max_bad -1 is negative"):
        ReadOptions(max_bad=-1)
