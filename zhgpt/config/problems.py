"""Turns pydantic's error list into sentences: where, which key, what was found, what was expected, what to do."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zhgpt.config.ownership import FAMILIAR_NAMES, RUN_CONFIG_OWNS
from zhgpt.config.schema import RunConfig
from zhgpt.config.section import Section
from zhgpt.config.values import spell
from zhgpt.config.zero_keys import DEEPSPEED_OWNS, ZERO_KEYS

BOUNDS: dict[str, tuple[str, str]] = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}

ONE_OF: dict[str, str] = {"data": "data.train or data.blend"}
"""What a section needs where no single key is required."""

WANTED: dict[str, str] = {
    "path_type": "expected a path",
    "tuple_type": "expected a list",
    "dict_type": "expected keys and values below it",
    "string_too_short": "must not be empty",
    "model_type": "expected keys and values below it",
    "model_attributes_type": "expected keys and values below it",
}


@dataclass(frozen=True, slots=True)
class Origins:
    """Where values came from: lines of a file, and overrides by dotted key."""

    file: str
    lines: Mapping[str, int]
    overrides: dict[str, str] = field(default_factory=dict)

    def of(self, key: str) -> str:
        """Place of the value with this dotted key: `file line N`, `override a.b=c`, or the file alone."""
        while True:
            if key in self.overrides:
                return f"override {self.overrides[key]}"
            for name, override in self.overrides.items():
                if name.startswith(f"{key}."):
                    return f"override {override}"
            if key in self.lines and not any(key.startswith(f"{name}.") for name in self.overrides):
                return f"{self.file} line {self.lines[key]}"
            if key.count(".") < 2:
                return self.file
            key = key.rpartition(".")[0]


def problem_sentences(error: ValidationError, origins: Origins) -> list[str]:
    """One sentence for each thing that is wrong; of a value that is none of several types, the one that went deepest."""
    found: dict[str, list[str]] = {}
    for details in error.errors(include_url=False):
        found.setdefault(_key_of(details), list(_sentences(details, origins)))
    return [
        line
        for key, lines in found.items()
        if not key or not any(other.startswith(f"{key}.") for other in found)
        for line in lines
    ]


def _key_of(details: ErrorDetails) -> str:
    """The dotted key, without the types that pydantic tried."""
    return ".".join(str(part) for part in details["loc"] if not str(part).startswith(("function-", "tuple[")))


def _sentences(details: ErrorDetails, origins: Origins) -> Iterator[str]:
    key = _key_of(details)
    kind, found = details["type"], details["input"]
    if not key:
        for line in _reason(details).splitlines():
            yield f"{origins.of(_key_spoken_of(line))}: {line}"
        return
    setting = ".".join(key.split(".")[:2])
    where = origins.of(key)
    if kind in ("extra_forbidden", "invalid_key"):
        yield f"{where}: {unknown_key_sentence(key)}"
    elif kind == "missing" and key.count(".") == 2 and item_model(key) is None:
        yield f"{where}: {setting}: expected one more item, found {spell(found)}"
    elif kind == "missing":
        yield f"{where if item_model(key) else origins.file}: {_missing_sentence(key)}"
    else:
        yield f"{where}: {key}: {expectation(details, found)}"


def _key_spoken_of(sentence: str) -> str:
    """The dotted key that a sentence begins with: `train.batch_ramp.0` where it is written `train.batch_ramp[0]:`."""
    return re.sub(r"\[(\d+)\]", r".\1", sentence.split(" ", 1)[0]).rstrip(":")


def _reason(details: ErrorDetails) -> str:
    return str(details.get("ctx", {}).get("error", details["msg"]))


def expectation(details: ErrorDetails, found: Any) -> str:
    """What was expected and found, for each kind of error that our types can raise."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return _reason(details)
    if kind in BOUNDS:
        words, name = BOUNDS[kind]
        return f"must be {words} {context[name]:.10g}, found {spell(found)}"
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", "")
        near = difflib.get_close_matches(str(found), expected.replace(" or ", ", ").split(", "))
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"expected {expected}, found {spell(found)}{hint}"
    if kind == "string_type":
        quoted = f"; write '\"{found}\"' to mean text" if isinstance(found, int | float) else ""
        return f"expected text, found {spell(found)}{quoted}"
    if kind in WANTED:
        return f"{WANTED[kind]}, found {spell(found)}"
    if kind in ("too_long", "too_short"):
        return f"expected {context.get('max_length', context.get('min_length'))} items, found {spell(found)}"
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, found {spell(found)}"


def _missing_sentence(key: str) -> str:
    section, _, name = key.partition(".")
    model = section_model(section)
    if not name or model is None:
        required = [
            f"{section}.{field_name}"
            for field_name, info in (model.model_fields if model else {}).items()
            if info.is_required()
        ]
        return f"section {section} is missing; it needs {ONE_OF.get(section, ', '.join(required))}"
    field_info = (item_model(key) or model).model_fields[key.rpartition(".")[2]]
    description = (field_info.description or "").split(". ")[0].rstrip(".")
    return f"{key} is missing: {description[:1].lower()}{description[1:]}"


def section_model(section: str) -> type[Section] | None:
    """The model of a section by its name, or None."""
    info = RunConfig.model_fields.get(section)
    return info.annotation if info is not None and isinstance(info.annotation, type) else None


def item_model(key: str) -> type[Section] | None:
    """The section inside a section that a key is in, or None: `model.moe.num_experts`, `data.blend.0.weight`."""
    section, *names = key.split(".")
    model = section_model(section)
    if model is None or len(names) < 2 or names[0] not in model.model_fields:
        return None
    return inner_section(model.model_fields[names[0]].annotation)


def inner_section(annotation: Any) -> type[Section] | None:
    """The section that a field holds, optional or as the items of a list, or None."""
    waiting = [annotation]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return annotation
        waiting += get_args(annotation)
    return None


def dotted_keys() -> list[str]:
    """Every setting as `section.key`, those of a section inside one as `section.name.key`, in the schema's order."""
    keys = []
    for section in RunConfig.model_fields:
        model = section_model(section)
        assert model is not None, f"section {section} is not a model"
        for name, info in model.model_fields.items():
            inner = inner_section(info.annotation)
            nested = inner is not None and not is_list(info.annotation)
            keys += [f"{section}.{name}"]
            keys += [f"{section}.{name}.{below}" for below in inner.model_fields] if nested and inner else []
    return keys


def is_list(annotation: Any) -> bool:
    """Whether a field holds a list, also where it may be left out."""
    return get_origin(annotation) is tuple or any(is_list(part) for part in get_args(annotation))


def unknown_key_sentence(key: str) -> str:
    """What to say about a key that RunConfig does not have: who owns it, or what was meant."""
    item = item_model(key)
    if item is not None:
        where, _, last = key.rpartition(".")
        near = difflib.get_close_matches(last, list(item.model_fields), n=1)
        listing = f"did you mean {near[0]}?" if near else f"{where} has {', '.join(item.model_fields)}"
        return f"unknown key {key}; {listing}"
    section, _, name = key.partition(".")
    last = name.split(".")[0] if name else section
    owner = next((part for part in (section, last) if part in DEEPSPEED_OWNS or part in ZERO_KEYS), None)
    if owner is not None and (section not in RunConfig.model_fields or (name and owner == last)):
        place = "" if owner in DEEPSPEED_OWNS else "zero_optimization."
        return (
            f"{key} belongs to the DeepSpeed JSON, not to the run's YAML: put {place}{owner} into the file given with "
            "--deepspeed_config"
        )
    meant = FAMILIAR_NAMES.get(last) or RUN_CONFIG_OWNS.get(last)
    if not name and not meant and last not in (known.rpartition(".")[2] for known in dotted_keys()):
        sections = difflib.get_close_matches(section, list(RunConfig.model_fields), n=1)
        if sections:
            return f"unknown section {section}; did you mean {sections[0]}?"
    meant = meant or ", ".join(_near_keys(key, last))
    return f"unknown key {key}; did you mean {meant}?" if meant else f"unknown key {key}; {_listing(section)}"


def _near_keys(key: str, last: str) -> list[str]:
    """Up to two settings of the same own name, or else whose dotted or own name resembles the key."""
    keys = dotted_keys()
    same_name = [candidate for candidate in keys if candidate.rpartition(".")[2] == last]
    if same_name:
        return same_name[:2]
    by_name = {candidate.rpartition(".")[2]: candidate for candidate in reversed(keys)}
    near = difflib.get_close_matches(key, keys, n=2, cutoff=0.75)
    near += [by_name[name] for name in difflib.get_close_matches(last, list(by_name), n=2, cutoff=0.75)]
    return list(dict.fromkeys(near))[:2]


def _listing(section: str) -> str:
    model = section_model(section)
    if model is None:
        return f"sections are {', '.join(RunConfig.model_fields)}"
    return f"section {section} has {', '.join(model.model_fields)}"
