"""RunConfig from a YAML file and `a.b=c` overrides, and back; every mistake becomes a sentence."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from zhgpt.config.model_shape import resolve_model
from zhgpt.config.problems import Origins, dotted_keys, problem_sentences
from zhgpt.config.schema import RunConfig, RunSection
from zhgpt.config.values import spell
from zhgpt.config.yaml_text import parse_yaml
from zhgpt.errors import MissingInputError, SettingError, StorageError, UserError


def load_run_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's settings.

    Args:
        path: a YAML file with RunConfig's sections.
        overrides: `section.key=value` each, the value in YAML; the last of two for one key counts.

    Raises:
        MissingInputError: no such file.
        StorageError: it cannot be read.
        SettingError: anything wrong inside, one line a problem, each naming file and line (or the override), the
            dotted key, what was found and what was expected.
    """
    path = Path(path)
    parsed = parse_yaml(_read(path), str(path))
    if not isinstance(parsed.value, Mapping):
        raise SettingError(
            f"{path}: expected sections (run, data, model, train …) with keys, found {spell(parsed.value)}"
        )
    origins = Origins(str(path), parsed.lines)
    values = {key: {} if value is None else value for key, value in parsed.value.items()}
    for override in overrides:
        _apply_override(values, override, origins)
    return validate_run_config(values, origins)


def validate_run_config(values: Mapping[str, Any], origins: Origins) -> RunConfig:
    """RunConfig from plain values; `origins` tells where each came from.

    Raises:
        SettingError: one line a problem.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise SettingError("\n".join(problem_sentences(error, origins))) from error


def run_config_to_yaml(config: RunConfig) -> str:
    """All settings as YAML that `load_run_config` reads back to an equal RunConfig."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return text


def find_run_dir(path: str | Path, overrides: Sequence[str] = ()) -> Path | None:
    """The run's folder, also where other settings are wrong; None where the file or an override that decides it is.

    Args:
        path: as for :func:`load_run_config`; where it cannot be read, an override can still say ``run.dir``.
        overrides: those of other keys do not matter.
    """
    values: dict[str, Any] = {"run": {}}
    is_read = False
    with suppress(UserError):
        parsed = parse_yaml(_read(Path(path)), str(path)).value
        if isinstance(parsed, Mapping) and isinstance(parsed.get("run") or {}, Mapping):
            values["run"], is_read = parsed.get("run") or {}, True
    for override in overrides:
        if override.startswith(("run.dir=", "run.name=")):
            with suppress(UserError):
                _apply_override(values, override, Origins(str(path), {}))
    try:
        run = RunSection.model_validate({key: values["run"][key] for key in ("dir", "name") if key in values["run"]})
    except ValidationError:
        return None
    return run.run_dir if is_read or run.dir is not None else None


def _read(path: Path) -> str:
    if path.is_dir():
        raise MissingInputError(f"{path} is a folder; --config wants a YAML file")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = sorted(str(other) for other in path.parent.glob("[!.]*.y*ml")) if path.parent.is_dir() else []
        listing = f"; there is {', '.join(near)}" if near else ""
        raise MissingInputError(f"{path}: no such config file{listing}") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _apply_override(values: dict[str, Any], override: str, origins: Origins) -> None:
    """Set one `a.b=c` in `values` and remember that it came from the command line."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise SettingError(f"override '{override}': expected key=value, as in train.steps=1000")
    value = parse_yaml(text, f"override {override}").value
    section, dot, _ = key.partition(".")
    if not dot and section in RunConfig.model_fields:
        raise SettingError(
            f"override {override}: {section} is a section; name one setting, as in "
            f"{next(known for known in dotted_keys() if known.startswith(f'{section}.'))}=…"
        )
    origins.overrides[key] = override
    if not dot:
        values[section] = value
    elif isinstance(values.get(section) or {}, Mapping):  # else the section itself is wrong, and told so
        _set_inside(values, key.split("."), value)


def _set_inside(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value below nested sections, making those that are not there; below a list or number it is an unknown key."""
    name, *below = path
    inside = values.get(name) or {}
    if not below:
        values[name] = value
    elif isinstance(inside, Mapping):
        values[name] = dict(inside)
        _set_inside(values[name], below, value)
    else:
        values[".".join(path)] = value


__all__ = ["Origins", "load_run_config", "resolve_model", "run_config_to_yaml", "validate_run_config"]
