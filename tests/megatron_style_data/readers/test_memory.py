"""Bounded memory: bombs, endless lines and long arrays are read in a process that may not take more."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

MEBIBYTE = 1 << 20
# Reads a file with so many MiB of address space beyond what the process has once everything is imported.
CODE = """
import json, resource, sys
from pathlib import Path
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_documents
path, extra, options = sys.argv[1], int(sys.argv[2]) << 20, json.loads(sys.argv[3])
taken = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + extra, taken + extra))
counters = ReadCounters()
(file,) = expand_inputs([path])
lengths = [len(document.text) for document in read_documents(file, ReadOptions(**options), counters)]
print(json.dumps([file.format, len(lengths), max(lengths, default=0), counters.dropped, counters.first_places]))
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory limits are tested on Linux")


def read_within(path: Path, mebibytes: int, **options: object) -> tuple[str, int, int, dict[str, int], str]:
    """Format, documents, longest text, what was dropped, first places."""
    command = [sys.executable, "-c", CODE, str(path), str(mebibytes), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    format, documents, longest, dropped, places = json.loads(done.stdout)
    return format, documents, longest, dropped, str(places)


def write_gzip(path: Path, pieces: Iterator[bytes]) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)
    return path


def write_zstd(path: Path, pieces: Iterator[bytes]) -> Path:
    with zstandard.open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
    return path


@pytest.mark.parametrize(("name", "write"), [("bomb.jsonl.gz", write_gzip), ("bomb.jsonl.zst", write_zstd)])
def test_a_bomb_is_one_bad_line_in_little_memory(
    name: str, write: Callable[[Path, Iterator[bytes]], Path], tmp_path: Path
) -> None:
    path = write(tmp_path / name, (b"0" * MEBIBYTE for _ in range(300)))
    assert path.stat().st_size < 2 * MEBIBYTE
    format, documents, _, dropped, places = read_within(path, 150)
    assert (format, documents, dropped) == ("jsonl", 0, {"too_long": 1})
    assert f"{name}, line 1: more than 67108864 bytes" in places


def test_a_line_of_100_megabytes_is_counted_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "first"}\n{"text": "')
        for _ in range(100):
            file.write("村".encode() * (MEBIBYTE // 3 + 1))
        file.write(b'"}\n{"text": "last"}\n')
    format, documents, _, dropped, places = read_within(path, 150)
    assert (format, documents, dropped) == ("jsonl", 2, {"too_long": 1})
    assert "a.jsonl, line 2: more than 67108864 bytes" in places


def test_an_array_of_100_megabytes_is_read_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "part-0.json"
    item = json.dumps({"title": "老树", "dataType": "x", "content": "村口。" * 4000}, ensure_ascii=False).encode()
    with open(path, "wb") as file:
        file.write(b'{"RECORDS": [' + item)
        for _ in range(3000):
            file.write(b",\n" + item)
        file.write(b"]}")
    assert path.stat().st_size > 100_000_000
    assert read_within(path, 40)[:3] == ("wudao.json", 3001, 12_003)


def test_a_text_file_of_38_megabytes_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    block = "村口有一棵老树。\n".encode() * 1000 + b"\n"
    path.write_bytes(block * 1600)
    assert read_within(path, 30, text_documents="blank-line")[:2] == ("text", 1600)
