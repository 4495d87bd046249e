"""Files of a corpus, and reading them in one call."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from megatron_style_data.readers import Document, InputFile, ReadCounters, ReadOptions, expand_inputs, read_documents

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Writes a file, compressed as its name says."""

    def write_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        path.write_bytes(COMPRESSORS.get(path.suffix, bytes)(data))
        return path

    return write_file


@pytest.fixture
def read() -> Callable[..., tuple[list[Document], ReadCounters]]:
    """Reads one file with some options: its documents and the counters."""

    def read_file(path: Path, format: str = "auto", **options: Any) -> tuple[list[Document], ReadCounters]:
        counters = ReadCounters()
        (file,) = expand_inputs([path], format)
        return list(read_documents(file, ReadOptions(**options), counters)), counters

    return read_file


@pytest.fixture
def read_into() -> Callable[..., list[Document]]:
    """Reads one file into given counters, so that they can be looked at after an error."""

    def read_file(path: Path, counters: ReadCounters, **options: Any) -> list[Document]:
        return list(read_documents(InputFile(path, path.name, "jsonl"), ReadOptions(**options), counters))

    return read_file


@pytest.fixture
def lines() -> Callable[..., str]:
    """JSON Lines of some records."""
    return lambda *records: "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
