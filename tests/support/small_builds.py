"""Files for builds of a few documents, and what a build wrote."""

import json
from collections.abc import Sequence
from pathlib import Path

import zstandard

SUFFIXES = (".bin", ".idx", ".meta.json")


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    """Writes a document of each text, compressed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    path.write_bytes(zstandard.compress(lines.encode()) if path.suffix == ".zst" else lines.encode())
    return path


def contents(prefix: Path) -> list[bytes]:
    """The bytes of a dataset's files."""
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in SUFFIXES]
