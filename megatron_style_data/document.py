"""One text of a corpus and where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its origin.

    Attributes:
        text: The text, never empty. Readers hand it out normalised (``normalize.py``).
        source: Name of the source: the file's path relative to the folder that was asked for, else the file's name.
        path: The file it was read from.
        place: Where in the file, from 1: line of a JSONL or blank-line separated text file, row of a Parquet file.
        fields: What else the record says, as JSON values: title, url, licence, score, turns of a dialogue ...
    """

    text: str
    source: str
    path: str
    place: int
    fields: Mapping[str, Any] = field(default_factory=dict)
