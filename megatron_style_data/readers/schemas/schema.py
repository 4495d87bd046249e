"""What a corpus's records look like, and how one becomes a text: the form of every module beside this one."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from megatron_style_data.readers.options import ReadOptions

Record = Mapping[str, Any]
# Characters; a shorter title, such as 春, begins many a text by chance.
_LONG_TITLE = 8


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a record, and what else it says (title, url, id, score, licence, conversations ...)."""

    text: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Schema:
    """The records of one corpus.

    Attributes:
        corpus: Its name and what a record holds, in words.
        recognises: Whether a record is of this corpus, by its keys alone.
        extract: Its text and fields; a string says what was found where a text was expected.
        fits: Whether a record may be of this corpus where the file's name says so; None: only ``recognises`` counts.
        names: File names that say so.
        goes_on: Whether the second of two records that follow each other goes on with the dialogue of the first, so
            that both are one document; None: each record is one.
        text_field: The field that is the text, where ``extract`` takes just that; None: a text is more than a field.
    """

    corpus: str
    recognises: Callable[[Record], bool]
    extract: Callable[[Record, ReadOptions], Extracted | str]
    fits: Callable[[Record], bool] | None = None
    names: re.Pattern[str] | None = None
    goes_on: Callable[[Extracted, Extracted], bool] | None = None
    text_field: str | None = None


def has(record: Record, *names: str) -> bool:
    """Whether a record has all these fields."""
    return all(name in record for name in names)


def rest(record: Record, *taken: str) -> dict[str, Any]:
    """The fields of a record that are not ``taken`` and not null."""
    return {name: value for name, value in record.items() if name not in taken and value is not None}


def joined(*parts: Any, between: str = "\n") -> str:
    """Joins the parts of a text, such as title and body, leaving out what is empty or what the next part repeats."""
    texts = [part.strip("\n") for part in parts if isinstance(part, str) and part.strip()]
    following = [*texts[1:], ""]
    return between.join(text for text, after in zip(texts, following, strict=True) if not _begins(after, text.strip()))


def _begins(text: str, title: str) -> bool:
    """Whether the first line is the title, with or without Markdown's ``#``, or a long title begins it."""
    first_line = text.lstrip("# \u3000\n").partition("\n")[0].strip()
    return first_line == title or (len(title) >= _LONG_TITLE and first_line.startswith(title))


def string_or_why(record: Record, name: str) -> tuple[str, str | None]:
    """A field that must be a string, and None; else what is there instead of it."""
    value = record.get(name)
    if isinstance(value, str):
        return value, None
    if name in record:
        return "", f"field {name!r} is {json.dumps(value, ensure_ascii=False, default=str)[:40]}, not a string"
    return "", f"no field {name!r} (found: {', '.join(map(repr, record)) or 'none'})"


def one_string(name: str, **renamed: str) -> Callable[[Record, ReadOptions], Extracted | str]:
    """Extracts the text from one field; the others are kept, some under a common name (``renamed``: new=old)."""
    old_to_new = {old: new for new, old in renamed.items()}

    def extract(record: Record, options: ReadOptions) -> Extracted | str:
        text, why = string_or_why(record, name)
        if why is not None:
            return why
        return Extracted(text, {old_to_new.get(key, key): value for key, value in rest(record, name).items()})

    return extract


def parsed(value: Any) -> Any:
    """What a field holds that is JSON written into a string, as MNBVC's 扩展字段 and CCI's meta_info."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
