"""Writes small shards."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard

WriteShard = Callable[[str, Sequence[str]], Path]


@pytest.fixture
def write_shard(tmp_path: Path) -> WriteShard:
    """Writes texts as a part of a cleaned corpus, compressed if its name says so."""

    def write(name: str, texts: Sequence[str]) -> Path:
        lines = [json.dumps({"text": text, "source": "诗"}, ensure_ascii=False) + "\n" for text in texts]
        data = "".join(lines).encode("utf-8")
        path = tmp_path / name
        path.write_bytes(zstandard.compress(data) if name.endswith(".zst") else data)
        return path

    return write
