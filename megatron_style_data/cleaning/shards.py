"""Shards of a clean corpus: JSON lines packed with zstd, there completely or not at all."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard

from megatron_style_data.atomic import atomic_file

_LEVEL = 6
_LONGEST_LINE = 1 << 30


@contextmanager
def shard_writer(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Yields a function that adds one line (without its end) to a new shard.

    Raises:
        StorageError: The shard cannot be written.
    """
    with atomic_file(path) as file, zstandard.ZstdCompressor(_LEVEL).stream_writer(file, closefd=False) as packed:
        yield lambda line: packed.write(line + b"\n")


def shard_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a shard without their ends."""
    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
        for line in io.BufferedReader(unpacked, 1 << 18):
            yield line.removesuffix(b"\n")


def record_line(text: str, source: str, license: str, fields: dict[str, Any]) -> bytes:
    """One document as a line: text, source, licence where known, then its other fields."""
    own = {"text": text, "source": source, **({"license": license} if license else {})}
    rest = {name: value for name, value in fields.items() if name not in own}
    return json.dumps({**own, **rest}, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
