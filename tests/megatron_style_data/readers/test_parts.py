"""Parts of a file: every line in exactly one, in order, with its number in the whole file."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron_style_data.readers.byte_stream import byte_lines
from megatron_style_data.readers.parts import FilePart, lines_before, places_in_file

BOM = b"\xef\xbb\xbf"


def parts_of(size: int, length: int) -> list[FilePart]:
    return [FilePart(number * length, (number + 1) * length) for number in range(max(1, math.ceil(size / length)))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"", b"a", b"\r", b"bcd", b"x" * 30]), max_size=12), st.booleans(), st.integers(1, 9))
def test_the_parts_of_a_file_give_its_lines_once_and_in_order(
    tmp_path: Path, lines: list[bytes], final_end: bool, length: int
) -> None:
    content = b"\n".join(lines) + (b"\n" if final_end else b"")
    path = tmp_path / "a"
    path.write_bytes(content)
    found = []
    for part in parts_of(len(content), length):
        before = lines_before(path, part.start)
        found += [(before + number, line) for number, line in byte_lines(path, 100, part)]
    assert found == list(byte_lines(path, 100))


def test_lines_longer_than_a_piece_are_read_by_the_part_they_begin_in(tmp_path: Path) -> None:
    path, long = tmp_path / "a", b"x" * 1_000_000
    path.write_bytes(b"1\n" + long + b"\n3")
    assert list(byte_lines(path, 2_000_000, FilePart(0, 2))) == [(1, b"1")]
    assert list(byte_lines(path, 2_000_000, FilePart(2, 3))) == [(1, long)]
    assert list(byte_lines(path, 10, FilePart(2, 900_000))) == [(1, None)]
    assert list(byte_lines(path, 2_000_000, FilePart(3, 1_000_003))) == []
    assert list(byte_lines(path, 2_000_000, FilePart(1_000_003, 2_000_000))) == [(1, b"3")]
    assert (lines_before(path, 2), lines_before(path, 3), lines_before(path, 1_000_004)) == (1, 2, 3)


def test_a_byte_order_mark_is_one_only_at_the_beginning_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(BOM + b"a\n" + BOM + b"b\n")
    assert list(byte_lines(path, 100, FilePart(0, 5))) == [(1, b"a")]
    assert list(byte_lines(path, 100, FilePart(5, 10))) == [(1, BOM + b"b")]


def test_compressed_files_have_no_parts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(AssertionError, match="gzip data is not read in parts"):
        list(byte_lines(path, 100, FilePart(0, 4)))


def test_a_message_names_the_line_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1\n2\n3\n4\n")
    part = FilePart(3, 8)  # lines 3 and 4
    assert places_in_file(f"{path}, line 2: not JSON", path, part) == f"{path}, line 4: not JSON"
    assert places_in_file(f"{path}, line 2: not JSON", path, FilePart(0, 4)) == f"{path}, line 2: not JSON"
    assert places_in_file("another message, line 2", path, part) == "another message, line 2"
