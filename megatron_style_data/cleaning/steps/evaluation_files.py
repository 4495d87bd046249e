"""Reads evaluation sets for decontamination: C-Eval- and CMMLU-shaped CSV, JSON lines, plain or compressed."""

import csv
import glob
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_style_data.cleaning.code_points import letters_and_digits
from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.readers.byte_stream import byte_pieces

_QUESTION_FIELDS = (
    "question",
    "prompt",
    "text",
    "content",
    "instruction",
    "input",
    "query",
    "passage",
    "context",
    "题目",
)
_CHOICE_FIELDS = ("a", "b", "c", "d", "e", "choices", "options")
_ENDINGS = (".csv", ".jsonl", ".json", ".ndjson")
_COMPRESSED = (".gz", ".zst", ".zstd")


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One question or passage.

    Attributes:
        name: File and place, for people.
        texts: Its texts of ``ngram`` letters or more, matched one by one.
    """

    name: str
    texts: tuple[str, ...]


def read_evaluation_items(inputs: Sequence[str], fields: Sequence[str], ngram: int) -> list[EvaluationItem]:
    """All items of the files that ``inputs`` name.

    Args:
        inputs: Files, folders and globs.
        fields: Fields whose texts count; empty: the known names of questions and choices.
        ngram: Texts of fewer letters and digits are joined with the item's next one, or left out.

    Raises:
        MissingInputError: An input names no file.
        BadDataError: A file is damaged or holds no such field, or no item is long enough.
    """
    items = []
    for path in _files(inputs):
        found = 0
        for place, record in _records(path):
            texts = _long_enough(_texts_of(record, fields), ngram)
            found += 1
            if texts:
                items.append(EvaluationItem(f"{path.name}:{place}", tuple(texts)))
        if not found:
            raise BadDataError(f"{path}: holds no evaluation item; expected records with a question or a text.")
    if not items:
        raise BadDataError(
            f"{', '.join(inputs)}: no item has {ngram} letters in a row in {', '.join(fields or _QUESTION_FIELDS)}; "
            "name the fields (fields) or lower ngram."
        )
    return items


def _files(inputs: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and _ending(file) in _ENDINGS)
        elif path.is_file():
            found = [path]
        else:
            found = sorted(Path(name) for name in glob.glob(given, recursive=True) if Path(name).is_file())
        if not found:
            raise MissingInputError(f"{given}: no evaluation file; expected {', '.join(_ENDINGS)}, a folder or a glob.")
        files.extend(found)
    return list(dict.fromkeys(files))


def _ending(path: Path) -> str:
    endings = [ending.lower() for ending in path.suffixes]
    while endings and endings[-1] in _COMPRESSED:
        endings.pop()
    return endings[-1] if endings else ""


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    content = b"".join(byte_pieces(path))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        bad_line = content[: error.start].count(b"\n") + 1
        raise BadDataError(f"{path}, line {bad_line}: not UTF-8; expected an evaluation set in UTF-8.") from error
    if _ending(path) == ".csv":
        yield from enumerate(csv.DictReader(io.StringIO(text)), start=2)  # line 1 holds the names
        return
    if text.lstrip().startswith("["):
        yield from ((number, _object(record, path, number)) for number, record in enumerate(_json(text, path, 1), 1))
        return
    for place, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield place, _object(_json(line, path, place), path, place)


def _json(text: str, path: Path, place: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadDataError(f"{path}, line {place}: not JSON ({error}); expected one object a line.") from error


def _object(record: Any, path: Path, place: int) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise BadDataError(f"{path}, item {place}: a JSON {type(record).__name__}; expected an object.")
    return record


def _texts_of(record: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    wanted = [name.lower() for name in fields] or [*_QUESTION_FIELDS, *_CHOICE_FIELDS]
    by_name = {str(name).strip().lower(): value for name, value in record.items() if name is not None}
    values = [by_name[name] for name in wanted if name in by_name]
    texts: list[str] = []
    for value in values:
        if isinstance(value, list):
            texts.extend(str(part) for part in value)
        elif isinstance(value, dict):
            texts.extend(str(part) for part in value.values())
        elif isinstance(value, str):
            texts.append(value)
    return texts


def _long_enough(texts: Sequence[str], ngram: int) -> list[str]:
    """Texts of ``ngram`` letters or more; shorter ones are joined with those that follow, as in 题目 + A + B."""
    found: list[str] = []
    held = ""
    for text in texts:
        held += text
        if len(letters_and_digits(held)) >= ngram:
            found.append(held)
            held = ""
    return found
