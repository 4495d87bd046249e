"""The tables of docs/configuration.md, made from the schema, so that the page cannot drift from the code.

`python -m zhgpt.config.reference docs/configuration.md` writes them anew.
"""

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from zhgpt.config.ownership import REFUSED_IN_JSON, REFUSED_ZERO_KEYS, RUN_CONFIG_OWNS
from zhgpt.config.problems import inner_section, is_list, section_model
from zhgpt.config.schema import RunConfig
from zhgpt.config.section import Section
from zhgpt.config.zero_keys import DEEPSPEED_OWNS, ZERO_KEYS, Key
from zhgpt.errors import MissingInputError, SettingError

ALSO_WORDS: dict[str, str] = {"optim.learning_rate": "number > 0, `auto`"}
"""Settings that take a word in place of a number."""

DERIVED_DEFAULTS: dict[str, str] = {"schedule.warmup_steps": "2 % of `train.steps`"}
"""Settings that are filled in while loading."""

LIMITS: dict[str, str] = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}

TYPE_WORDS: dict[object, str] = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}


def settings_table() -> str:
    """Every RunConfig key with type, default and meaning, one table a section."""
    blocks = []
    for section in RunConfig.model_fields:
        model = section_model(section)
        assert model is not None, f"section {section} is not a model"
        rows = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            rows += _setting_rows(f"{section}.{name}", field)
        blocks.append(f"### `{section}`\n\n{' '.join((model.__doc__ or '').split())}\n\n" + "\n".join(rows))
    return "\n\n".join(blocks)


def _setting_rows(key: str, field: FieldInfo) -> list[str]:
    """The row of a setting; where it is a section or a list of sections, also those of the keys below."""
    meaning = " ".join((field.description or "").split())
    rows = [f"| `{key}` | {ALSO_WORDS.get(key) or _type_text(field)} | {_default_text(key, field)} | {meaning} |"]
    below = inner_section(field.annotation)
    place = f"{key}[]" if is_list(field.annotation) else key
    for name, inner in (below.model_fields if below else {}).items():
        rows += _setting_rows(f"{place}.{name}", inner)
    return rows


def deepspeed_table() -> str:
    """Every key that a DeepSpeed JSON may have, with what it holds and the ZeRO stages that read it."""
    rows = ["| Key | Holds | ZeRO stage |", "|---|---|---|"]
    for name, key in DEEPSPEED_OWNS.items():
        if name != "zero_optimization":
            rows.append(_key_row(name, key))
    rows += [_key_row(f"zero_optimization.{name}", key) for name, key in ZERO_KEYS.items()]
    return "\n".join(rows)


def refused_table() -> str:
    """Every key that a DeepSpeed JSON may not have, with the RunConfig key or the reason."""
    rows = ["| Key | Instead, or why not |", "|---|---|"]
    rows += [f"| `{name}` | in the run's YAML: {instead} |" for name, instead in RUN_CONFIG_OWNS.items()]
    rows += [f"| `{name}` | {reason} |" for name, reason in REFUSED_IN_JSON.items()]
    rows += [f"| `zero_optimization.{name}` | {reason} |" for name, reason in REFUSED_ZERO_KEYS.items()]
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "deepspeed": deepspeed_table,
    "refused": refused_table,
}


def with_tables(page: str) -> str:
    """The page with each `<!-- table: NAME -->` … `<!-- end -->` filled anew.

    Raises:
        SettingError: a table has no place in the page.
    """
    for name, table in TABLES.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(page):
            raise SettingError(
                f"the page has no place for the table {name}: add <!-- table: {name} --> and <!-- end -->"
            )
        page = place.sub(functools.partial(_filled, text=table()), page)
    return page


def _filled(place: re.Match[str], text: str) -> str:
    return f"{place[1]}\n{text}\n\n{place[2]}"


def main(arguments: list[str]) -> None:
    """Rewrite the tables of the page named in `arguments`."""
    if len(arguments) != 1:
        raise SettingError("expected one argument, the page: python -m zhgpt.config.reference docs/configuration.md")
    page = Path(arguments[0])
    if not page.is_file():
        raise MissingInputError(f"{page}: no such page")
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def _key_row(name: str, key: Key) -> str:
    holds = {"switch": "true or false", "count": "whole number", "words": "list of texts"}.get(key.kind, key.kind)
    if key.choices:
        holds = ", ".join(f"`{choice}`" for choice in key.choices)
    elif key.below:
        holds = ", ".join(f"`{inner}`" for inner in key.below)
    stages = "any" if len(key.stages) == 4 else ", ".join(map(str, key.stages))
    return f"| `{name}` | {holds} | {stages} |"


def _type_text(field: FieldInfo) -> str:
    limits = [
        pattern.format(getattr(constraint, attribute))
        for constraint in _constraints(field)
        for attribute, pattern in LIMITS.items()
        if getattr(constraint, attribute, None) is not None
    ]
    return " ".join([_annotation_text(field.annotation), ", ".join(limits)]).strip()


def _constraints(field: FieldInfo) -> list[Any]:
    return [constraint for constraint in field.metadata if any(hasattr(constraint, name) for name in LIMITS)]


def _annotation_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotation_text(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_annotation_text(argument) for argument in arguments if argument is not type(None))
    if origin is dict:
        return f"name: {_annotation_text(arguments[1])}"
    if origin is tuple and isinstance(arguments[0], type) and issubclass(arguments[0], Section):
        return f"list of {', '.join(f'`{name}`' for name in arguments[0].model_fields)}"
    if origin is tuple:
        words = _annotation_text(arguments[0])
        return f"list of {words}s" if arguments[-1] is Ellipsis else f"{len(arguments)} {words}s"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "keys below"
    return TYPE_WORDS[annotation]


def _default_text(key: str, field: FieldInfo) -> str:
    if key in DERIVED_DEFAULTS:
        return DERIVED_DEFAULTS[key]
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "left out"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value == {}:
        return "none"
    if isinstance(value, tuple):
        return "[" + ", ".join(f"`{item}`" for item in value) + "]" if value else "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    main(sys.argv[1:])
