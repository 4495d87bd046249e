"""JSON Lines files that survive the death of their writer."""

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zhgpt.errors import MissingInputError, StorageError
from zhgpt.train.json_lines import JsonLinesWriter, decode_line, encode_line, read_json_lines, trim_json_lines


def _until(step: int) -> Callable[[dict[str, Any]], bool]:
    return lambda record: record["step"] <= step


def test_a_line_reads_back_as_written_with_chinese_left_readable() -> None:
    line = encode_line({"step": 1, "text": "村民们", "loss": 10.123456789012345})
    assert "村民们".encode() in line
    assert decode_line(line) == {"step": 1, "text": "村民们", "loss": 10.123456789012345}


def test_nan_and_infinities_are_standard_json_and_read_back_as_floats() -> None:
    line = encode_line({"step": 1, "loss": math.nan, "gradient_norm": math.inf, "low": -math.inf})

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    raw = json.loads(line, parse_constant=refuse)
    assert raw["loss"] is None
    assert raw["non_finite"] == {"loss": "nan", "gradient_norm": "inf", "low": "-inf"}
    record = decode_line(line)
    assert math.isnan(record["loss"])
    assert (record["gradient_norm"], record["low"]) == (math.inf, -math.inf)
    assert "non_finite" not in record


def test_half_a_surrogate_pair_reads_back_as_written() -> None:
    assert decode_line(encode_line({"reason": "a\udc80b"})) == {"reason": "a\udc80b"}


def test_every_line_is_readable_before_the_writer_closes(tmp_path: Path) -> None:
    writer = JsonLinesWriter(tmp_path / "metrics.jsonl")
    writer.write({"step": 1})
    writer.write({"step": 2})
    assert [record["step"] for record in read_json_lines(tmp_path / "metrics.jsonl").records] == [1, 2]
    writer.sync()
    writer.close()
    writer.close()


def test_half_a_last_line_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    lines = read_json_lines(path)
    assert lines.records == [{"step": 1}]
    assert [(line.number, line.content) for line in lines.damaged] == [(2, b'{"step": 2, "lo')]
    assert lines.damaged[0].reason.startswith("not JSON (")


def test_a_whole_last_line_without_its_line_feed_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}')
    assert read_json_lines(path).records == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff{}", "not UTF-8 (byte 1)"),
        (b"[1]", "not a JSON object but list"),
        (b"{", "not JSON (Expecting property name enclosed in double quotes at column 2)"),
    ],
)
def test_a_damaged_line_says_what_is_wrong(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line + b'\n\n{"event": "saved"}\n')
    lines = read_json_lines(path)
    assert [(damaged.number, damaged.reason) for damaged in lines.damaged] == [(1, reason)]
    assert lines.records == [{"event": "saved"}]


def test_appending_after_a_crash_never_joins_a_line_to_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "sta')
    with JsonLinesWriter(path) as writer:
        writer.write({"event": "resumed"})
    assert read_json_lines(path).records == [{"event": "resumed"}]


def test_trimming_moves_later_and_damaged_lines_aside_and_loses_none(tmp_path: Path) -> None:
    path, dropped = tmp_path / "metrics.jsonl", tmp_path / "metrics.dropped.jsonl"
    lines = [b'{"step": 10, "loss": 9.5}', b"oops", b'{"step": 20}', b'{"step": 30}', b'{"step": 40, "l']
    path.write_bytes(b"\n".join(lines))
    dropped.write_bytes(b'{"step": 5}\n')
    trimmed = trim_json_lines(path, dropped, _until(20))
    assert (trimmed.kept, trimmed.dropped, trimmed.damaged) == (2, 3, 2)
    assert path.read_bytes() == b'{"step": 10, "loss": 9.5}\n{"step": 20}\n'
    assert dropped.read_bytes() == b'{"step": 5}\noops\n{"step": 30}\n{"step": 40, "l\n'
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.dropped.jsonl", "metrics.jsonl"]


def test_trimming_nothing_leaves_the_file_and_writes_none(tmp_path: Path) -> None:
    path, dropped = tmp_path / "metrics.jsonl", tmp_path / "metrics.dropped.jsonl"
    assert trim_json_lines(path, dropped, _until(20)).dropped == 0
    path.write_bytes(b'{"step": 10}\n')
    inode = path.stat().st_ino
    assert trim_json_lines(path, dropped, _until(20)).kept == 1
    assert path.stat().st_ino == inode
    assert not dropped.exists()


def test_a_crash_before_the_replacement_keeps_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, dropped = tmp_path / "metrics.jsonl", tmp_path / "metrics.dropped.jsonl"
    whole = b'{"step": 10}\n{"step": 20}\n'
    path.write_bytes(whole)
    monkeypatch.setattr(os, "replace", _die)
    with pytest.raises(KeyboardInterrupt):
        trim_json_lines(path, dropped, _until(10))
    assert path.read_bytes() == whole
    monkeypatch.undo()
    assert trim_json_lines(path, dropped, _until(10)).dropped == 1
    assert path.read_bytes() == b'{"step": 10}\n'


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_missing_file_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.jsonl: no such file"):
        read_json_lines(tmp_path / "none.jsonl")


def test_a_file_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read: Is a directory"):
        read_json_lines(tmp_path)


def test_a_file_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot append a line: Is a directory; free space or repair"):
        JsonLinesWriter(tmp_path)


def test_a_full_disk_says_what_to_do() -> None:
    with pytest.raises(StorageError, match="/dev/full: cannot append a line: No space left on device; free space"):  # noqa: SIM117
        with JsonLinesWriter(Path("/dev/full")) as writer:
            writer.write({"step": 1})


def test_a_disk_that_refuses_to_sync_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with JsonLinesWriter(tmp_path / "metrics.jsonl") as writer:
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot append a line: Input/output error; free space"):
            writer.sync()
        monkeypatch.undo()


def test_lines_that_cannot_be_kept_stop_the_trimming(tmp_path: Path) -> None:
    path, dropped = tmp_path / "metrics.jsonl", tmp_path / "metrics.dropped.jsonl"
    path.write_bytes(b'{"step": 10}\n')
    dropped.mkdir()
    with pytest.raises(StorageError, match="cannot keep the lines of steps that will be run again: Is a directory"):
        trim_json_lines(path, dropped, _until(0))
    assert path.read_bytes() == b'{"step": 10}\n'
