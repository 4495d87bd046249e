"""Turns pydantic's error list about a recipe into sentences: where, which key, what was found, what was meant."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def problem_sentences(
    error: ValidationError, model: type[BaseModel], prefix: str, origin: str, lines: Mapping[str, int]
) -> list[str]:
    """One sentence for each thing that is wrong.

    Args:
        error: What pydantic found.
        model: The model that was filled.
        prefix: Dotted name of the place of that model in the recipe, with a final dot; empty at the top.
        origin: The recipe's name.
        lines: Line of each key by its dotted name.
    """
    sentences = []
    for details in error.errors(include_url=False):
        location = [part for part in details["loc"] if not str(part).startswith("function-")]
        key = prefix + ".".join(map(str, location))
        where = place_of(origin, lines, key)
        kind, context, found = details["type"], details.get("ctx", {}), details["input"]
        if kind == "extra_forbidden":
            known = list(_model_at(model, location[:-1]).model_fields)
            above = key.rpartition(".")[0]
            sentences.append(f"{where}: unknown key {unknown_name(str(location[-1]), known, above)}")
        elif kind == "missing":
            sentences.append(f"{where}: {key} is missing: {_description(_model_at(model, location[:-1]), location)}")
        elif kind in _BOUNDS:
            words, name = _BOUNDS[kind]
            sentences.append(f"{where}: {key}: must be {words} {context[name]:g}, found {found!r}")
        elif kind == "literal_error":
            sentences.append(f"{where}: {key}: expected {context['expected']}, found {found!r}")
        elif kind == "value_error":
            sentences.append(f"{where}: {key}: {context['error']}")
        else:
            said = details["msg"].replace("Input should be", "expected")
            sentences.append(f"{where}: {key}: {said[:1].lower()}{said[1:]}, found {found!r}")
    return sentences


def place_of(origin: str, lines: Mapping[str, int], key: str) -> str:
    """File and line of a key, or of the nearest one above it whose line is known."""
    while key:
        if key in lines:
            return f"{origin} line {lines[key]}"
        key = key.rpartition(".")[0]
    return origin


def unknown_name(name: str, known: Sequence[str], above: str = "") -> str:
    """The name and what was meant, or what there is."""
    dotted = f"{above}." if above else ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [
        candidate for candidate in known if name in candidate.split("_") or candidate.startswith(name)
    ]
    hint = f"did you mean {dotted}{near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{dotted}{name}; {hint}"


def _model_at(model: type[BaseModel], location: Sequence[Any]) -> type[BaseModel]:
    """The model that holds the key at ``location``."""
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        model = inner[0] if inner else model
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]


def _description(model: type[BaseModel], location: Sequence[Any]) -> str:
    field = model.model_fields.get(str(location[-1]))
    said = (field.description or "") if field else ""
    return said[:1].lower() + said[1:].rstrip(".")
