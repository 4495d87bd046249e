"""A grid from its YAML file and overrides of its base; every mistake becomes a sentence."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zhgpt.ablate.grid import Grid
from zhgpt.config.problems import Origins, expectation
from zhgpt.config.values import spell
from zhgpt.config.yaml_text import parse_yaml
from zhgpt.errors import MissingInputError, SettingError, StorageError


def load_grid(path: Path, overrides: Sequence[str] = ()) -> Grid:
    """Read a grid file.

    Args:
        path: YAML.
        overrides: `a.b=c` each, settings of every variant on top of the file's `base.overrides`.

    Raises:
        MissingInputError: no such file.
        StorageError: it cannot be read.
        SettingError: anything wrong inside, one line a problem, with file, line and key.
    """
    parsed = parse_yaml(_read(path), str(path))
    if not isinstance(parsed.value, Mapping):
        raise SettingError(f"{path}: expected keys (name, base, axes, variants …), found {spell(parsed.value)}")
    try:
        grid = Grid.model_validate({"name": path.stem, **parsed.value})
    except ValidationError as error:
        origins = Origins(str(path), parsed.lines)
        problems = [_sentence(details, origins) for details in error.errors(include_url=False)]
        raise SettingError("\n".join(problems)) from error
    added = dict(_parse_override(override) for override in overrides)
    base = grid.base.model_copy(update={"overrides": {**grid.base.overrides, **added}})
    return grid.model_copy(update={"base": base})


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SettingError(f"override '{override}': expected key=value, as in train.steps=100")
    return key.strip(), parse_yaml(text, f"override {override}").value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        near = sorted(str(other) for other in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        listing = f"; there is {', '.join(near)}" if near else "; ready ones are in configs/ablations/"
        raise MissingInputError(f"{path}: no such grid file{listing}") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _sentence(details: ErrorDetails, origins: Origins) -> str:
    location = [part for part in details["loc"] if not str(part).startswith("function-")]
    if location and location[0] == "axes":  # the union's branches are no part of the key
        location = [part for part in location if not str(part).startswith(("list[", "dict["))]
    key = ".".join(map(str, location))
    where = _place(origins, key)
    if details["type"] == "extra_forbidden":
        known = list(_model_at(location[:-1]).model_fields)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        above = "".join(f"{part}." for part in location[:-1])
        return f"{where}: unknown key {key}; " + (
            f"did you mean {above}{near[0]}?" if near else f"known here: {', '.join(known)}"
        )
    if details["type"] == "missing":
        said = _model_at(location[:-1]).model_fields[str(location[-1])].description or "what all variants start from"
        return f"{where}: {key} is missing: {said[:1].lower()}{said[1:].rstrip('.')}"
    return (
        f"{where}: {key}: {expectation(details, details['input'])}" if key else f"{where}: {expectation(details, None)}"
    )


def _place(origins: Origins, key: str) -> str:
    while key:
        if key in origins.lines:
            return f"{origins.file} line {origins.lines[key]}"
        key = key.rpartition(".")[0]
    return origins.file


def _model_at(location: Sequence[Any]) -> type[BaseModel]:
    """The model that holds the keys below a place of the file."""
    model: type[BaseModel] = Grid
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
