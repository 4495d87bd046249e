"""One file of a corpus: where it is, what it is called in counts, how it is read."""

from dataclasses import dataclass, field
from pathlib import Path

from megatron_style_data.readers.parts import FilePart


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a corpus, or one dataset that is streamed.

    Attributes:
        path: The file.
        source: Its name in counts and manifests: the path relative to the folder that was asked for, else the file's
            name; the whole path where two files would share a name; the address of what is streamed.
        format: A key of ``READERS``: ``jsonl``, ``text``, ``parquet``, ``cci.jsonl``, ``cci.parquet`` ...
        part: The part of the file that is read; None: all of it.
        why: Why this format was taken, in words; empty where it was asked for.
    """

    path: Path
    source: str
    format: str
    part: FilePart | None = None
    why: str = field(default="", compare=False)
