"""Reads a DeepSpeed JSON and refuses what DeepSpeed would take silently: unknown keys, keys that RunConfig owns,
wrong types, settings that the chosen ZeRO stage ignores."""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zhgpt.config.ownership import REFUSED_IN_JSON, REFUSED_ZERO_KEYS, RUN_CONFIG_OWNS
from zhgpt.config.values import real_number, spell, switch, whole_number
from zhgpt.config.zero_keys import DEEPSPEED_OWNS, Key
from zhgpt.config.zero_rules import stage_problems
from zhgpt.errors import MissingInputError, SettingError, StorageError

DEFAULT_DEEPSPEED_JSON = Path("ds_configs/zero1.json")


def load_deepspeed_json(path: str | Path | None = None) -> dict[str, Any]:
    """Read and check a DeepSpeed JSON; left out, `ds_configs/zero1.json` under the working directory.

    Raises:
        MissingInputError: no such file.
        StorageError: it cannot be read.
        SettingError: not JSON, a key that is unknown or owned by RunConfig, a wrong type, or keys that cannot go
            together at its ZeRO stage; one line a problem.
    """
    file = Path(path) if path is not None else DEFAULT_DEEPSPEED_JSON
    content = _parse(_read(file, given=path is not None), file)
    problems = [f"{file}: {problem}" for problem in deepspeed_problems(content)]
    if problems:
        raise SettingError("\n".join(problems))
    checked: dict[str, Any] = _whole_numbers(content)
    return checked


def deepspeed_problems(content: Mapping[str, Any]) -> list[str]:
    """Everything wrong in the content of a DeepSpeed JSON, one sentence each; empty when all is well."""
    problems = list(_mapping_problems(content, DEEPSPEED_OWNS, ""))
    return problems if problems else stage_problems(content)


def _read(file: Path, *, given: bool) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        near = sorted(str(other) for other in file.parent.glob("*.json")) if file.parent.is_dir() else []
        listing = f"; there is {', '.join(near)}" if near else "; name one with --deepspeed_config"
        which = "" if given else " (the one taken when --deepspeed_config is not given)"
        raise MissingInputError(f"{file}{which}: no such DeepSpeed JSON{listing}") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{file}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise StorageError(f"{file}: cannot be read: {error.strerror}") from error


def _parse(text: str, file: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise SettingError(f'{file}: "{key}" is given twice in one place; keep one')
            seen[key] = value
        return seen

    def refuse_constant(name: str) -> float:
        raise SettingError(f"{file}: {name} is not a number that a setting can have")

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SettingError(f"{file} {place}: not JSON: {error.msg}; JSON has no comments and no last comma") from error
    if not isinstance(content, dict):
        raise SettingError(f"{file}: expected an object ({{…}}) with keys, found {spell(content)}")
    return content


def _mapping_problems(content: Mapping[str, Any], keys: dict[str, Key], prefix: str) -> Iterator[str]:
    for name, value in content.items():
        key = keys.get(name)
        if key is None:
            yield _unknown_sentence(name, keys, prefix)
        elif key.kind == "mapping" and isinstance(value, Mapping):
            yield from _mapping_problems(value, key.below, f"{prefix}{name}.")
        else:
            reason = _value_problem(key, value)
            if reason:
                yield f"{prefix}{name}: {reason}"


def _unknown_sentence(name: str, keys: dict[str, Key], prefix: str) -> str:
    full = f"{prefix}{name}"
    if not prefix and name in RUN_CONFIG_OWNS:
        return f"{full} belongs to the run's YAML, not to the DeepSpeed JSON: remove it and set {RUN_CONFIG_OWNS[name]}"
    reason = {"": REFUSED_IN_JSON, "zero_optimization.": REFUSED_ZERO_KEYS}.get(prefix, {}).get(name)
    if reason:
        return f"{full} cannot be set: {reason}"
    near = difflib.get_close_matches(name, list(keys), n=1, cutoff=0.6)
    near = near or [known for known in keys if known.endswith(f"_{name}")][:1]
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(keys)}"
    return f"unknown key {full}; {hint}"


def _value_problem(key: Key, value: object) -> str | None:
    """Why `value` cannot be the key's, or None. DeepSpeed's "auto" is for other trainers: ours states numbers."""
    if value == "auto":
        return "expected a value, found 'auto': nothing fills it in here; write the number"
    if key.kind == "mapping":
        return f"expected an object ({{…}}), found {spell(value)}"
    try:
        _CHECKS[key.kind](value)
    except ValueError as error:
        return str(error)
    if key.kind == "count" and float(value) < 0:  # type: ignore[arg-type]
        return f"must be at least 0, found {spell(value)}"
    if key.choices and value not in key.choices:
        return f"expected one of {', '.join(key.choices)}, found {spell(value)}"
    return None


def _text(value: object) -> object:
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"expected text, found {spell(value)}")


def _words(value: object) -> object:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    raise ValueError(f"expected a list of texts, found {spell(value)}")


_CHECKS = {"switch": switch, "count": whole_number, "number": real_number, "text": _text, "words": _words}


def _whole_numbers(value: Any) -> Any:
    """5e8 as 500000000, at every depth, so that the composed JSON shows one spelling."""
    if isinstance(value, dict):
        return {key: _whole_numbers(inside) for key, inside in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 2 else value
