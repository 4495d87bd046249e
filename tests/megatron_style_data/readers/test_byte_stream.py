"""Compressed or not, the bytes come out whole or an error says which file is damaged and how."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, MissingInputError, StorageError
from megatron_style_data.readers.byte_stream import _ARCHIVES, byte_lines, byte_pieces

Write = Callable[[str, bytes | str], Path]
CONTENT = "".join(f"{number} 村民们都很高兴\n" for number in range(20_000)).encode()


def all_bytes(path: Path) -> bytes:
    return b"".join(byte_pieces(path))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_the_content_comes_out_whole(name: str, write: Write) -> None:
    assert all_bytes(write(name, CONTENT)) == CONTENT


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_an_empty_content_is_no_error(name: str, write: Write) -> None:
    assert all_bytes(write(name, b"")) == b""


def test_compression_is_recognised_without_its_ending(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "b.jsonl").write_bytes(zstandard.compress(CONTENT))
    assert all_bytes(tmp_path / "a.jsonl") == all_bytes(tmp_path / "b.jsonl") == CONTENT


def test_files_of_several_frames_and_members_are_read_to_the_end(tmp_path: Path) -> None:
    skippable = struct.pack("<II", 0x184D2A50, 5) + b"hello"
    (tmp_path / "a.zst").write_bytes(skippable + zstandard.compress(CONTENT) + skippable + zstandard.compress(b"end"))
    (tmp_path / "a.gz").write_bytes(gzip.compress(CONTENT) + gzip.compress(b"end"))
    assert all_bytes(tmp_path / "a.zst") == all_bytes(tmp_path / "a.gz") == CONTENT + b"end"


@pytest.mark.parametrize(("name", "word"), [("a.jsonl.gz", "gzip"), ("a.jsonl.zst", "zstd")])
@pytest.mark.parametrize("left", [0.3, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_refused_by_name(name: str, word: str, left: float, write: Write) -> None:
    path = write(name, CONTENT)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    with pytest.raises(BadDataError, match=rf"{name}: the {word} data is cut off; get the whole file again"):
        all_bytes(path)


@pytest.mark.parametrize(("name", "word"), [("a.jsonl.gz", "gzip"), ("a.jsonl.zst", "zstd")])
def test_a_damaged_file_is_refused_by_name(name: str, word: str, write: Write) -> None:
    path = write(name, CONTENT)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(BadDataError, match=rf"{name}: the {word} data is (damaged \(.+\)|cut off); get the"):
        all_bytes(path)


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b'{"text": 1}')
    with pytest.raises(BadDataError, match=r"a\.gz: starts with 7b 22 74 65; expected gzip data as its name says"):
        all_bytes(tmp_path / "a.gz")
    (tmp_path / "b.zst").write_bytes(b"")
    with pytest.raises(BadDataError, match=r"b\.zst: is empty; expected zstd data as its name says"):
        all_bytes(tmp_path / "b.zst")


def test_a_utf8_byte_order_mark_is_left_out_and_utf16_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfabc")
    (tmp_path / "b").write_bytes(b"\xef\xbb")
    (tmp_path / "c").write_bytes("村".encode("utf-16"))
    assert all_bytes(tmp_path / "a") == b"abc"
    assert all_bytes(tmp_path / "b") == b"\xef\xbb"
    with pytest.raises(BadDataError, match=r"c: is UTF-16; expected UTF-8 \(iconv"):
        all_bytes(tmp_path / "c")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="gone: no such file"):
        all_bytes(tmp_path / "gone")
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        all_bytes(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=30), st.booleans())
def test_lines_are_those_of_a_split_at_line_ends(tmp_path: Path, parts: list[bytes], final_end: bool) -> None:
    content = b"\n".join(parts) + (b"\n" if final_end else b"")
    path = tmp_path / "a"
    path.write_bytes(content)
    magics = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", *_ARCHIVES)
    # No mark of another encoding, gzip, zstd, or an archive.
    assume(not content.startswith(magics) and content[1:4] != b"\x2a\x4d\x18")
    expected = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    if content.endswith(b"\n") or not content:
        expected.pop()
    assert list(byte_lines(path, 1000)) == list(enumerate(expected, start=1))


def test_lines_longer_than_a_piece_come_out_whole(write: Write) -> None:
    long = b"x" * 1_000_000
    assert list(byte_lines(write("a", b"1\n" + long + b"\n3"), 2_000_000)) == [(1, b"1"), (2, long), (3, b"3")]


def test_a_line_that_is_too_long_is_none_and_the_next_ones_are_right(write: Write) -> None:
    path = write("a", b"1\n" + b"x" * 1_000_000 + b"\n3\n" + b"y" * 11)
    assert list(byte_lines(path, 10)) == [(1, b"1"), (2, None), (3, b"3"), (4, None)]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", r"a zip archive; .*\(unzip\)"),
        (b"Rar!\x1a\x07", r"a RAR archive; .*\(unrar x\)"),
        (b"7z\xbc\xaf\x27\x1c", r"a 7-zip archive; .*\(7z x\)"),
        (b"\xfd7zXZ\x00", r"xz data; .*\(xz -d\)"),
        (b"BZh9", r"bzip2 data; .*\(bzip2 -d\)"),
    ],
)
def test_an_archive_is_told_from_text(start: bytes, what: str, write: Write) -> None:
    with pytest.raises(BadDataError, match=rf"a\.jsonl: is {what} and read that"):
        all_bytes(write("a.jsonl", start + b"1234"))


def test_what_a_small_piece_of_zstd_data_grows_to_comes_in_pieces(write: Write) -> None:
    path = write("a.zst", b"\n" * 50_000_000)
    assert path.stat().st_size < 5_000
    sizes = [len(piece) for piece in byte_pieces(path)]
    assert (sum(sizes), max(sizes)) == (50_000_000, 1 << 18)
