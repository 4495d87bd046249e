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
        place: Where in the file, from 1: line of a JSONL or blank-line separated text file, row of a Parquet file, item
            of a JSON array.
        fields: What else the record says, as clean JSON values: title, url, id, license, score, time, author, category,
            conversations ([{role, content}]) and whatever other fields it has under their own names; never ``text``,
            which is ``other_text`` where another field was taken for the text.
    """

    text: str
    source: str
    path: str
    place: int
    fields: Mapping[str, Any] = field(default_factory=dict)
