"""The worked examples of docs/data_guide.md: files to write, a command, and what it prints.

An example is one or more files, each a line with its name in backticks and a block with its content, then a ``bash`` block
with one command and a ``text`` block with its whole output.
"""

import gzip
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import zstandard

_FILE = r"`([^`\n]+)`[^`\n]*\n\n```(?:json|text)\n(.*?)```\n\n"
_EXAMPLE = re.compile(rf"((?:{_FILE})+)```bash\n(zhgpt [^\n]+)\n```\n\n```text\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        files: Content by name.
        command: A line for a shell in the folder of the files.
        output: What it prints to both streams.
    """

    files: dict[str, str]
    command: str
    output: str


def examples_of(page: Path) -> list[Example]:
    """All examples of a page."""
    return [
        Example(dict(re.findall(_FILE, match.group(1), re.DOTALL)), match.group(4), match.group(5))
        for match in _EXAMPLE.finditer(page.read_text("utf-8"))
    ]


def write_file(path: Path, content: str) -> None:
    """Writes the content, packed as the name's ending says; a Parquet file from JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        rows = [json.loads(line) for line in content.splitlines()]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(content.encode()))


def run_example(example: Example, folder: Path) -> str:
    """Writes the files, runs the command there; returns what it printed."""
    for name, content in example.files.items():
        write_file(folder / name, content)
    command = f"{sys.executable} -m zhgpt.cli.main {example.command.removeprefix('zhgpt ')}"
    done = subprocess.run(
        ["bash", "-c", f"{command} 2>&1"],
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / ".hf"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout
