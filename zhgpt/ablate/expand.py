"""From a grid to its variants: every combination of axes and named settings, each with a name and a DeepSpeed JSON."""

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhgpt.ablate.grid import WHOLE_JSON, Grid, Settings
from zhgpt.config.deepspeed_file import deepspeed_problems, load_deepspeed_json
from zhgpt.config.values import spell
from zhgpt.errors import SettingError

FIXED_BY_SWEEP = {
    "run.name": "it is the variant's name and seed",
    "run.dir": "it is below the ablation's folder",
    "run.seed": "list seeds instead",
    "launch.world_size": "set processes (and hosts) instead",
    "launch.hosts": "set hosts instead",
}
"""Settings that the ablation itself fills in, and why a grid cannot."""

_BAD_IN_NAMES = str.maketrans(dict.fromkeys('/\\:*?"<>| \t\n', "_"))


@dataclass(frozen=True)
class Variant:
    """One point of the grid.

    Attributes:
        name: a folder's name.
        settings: what distinguishes it, as the grid states it.
        overrides: RunConfig keys of base and variant together, the variant's last.
        deepspeed_json: the checked DeepSpeed JSON.
    """

    name: str
    settings: Settings
    overrides: Settings
    deepspeed_json: dict[str, Any]


def expand(grid: Grid) -> list[Variant]:
    """All variants in the grid's order.

    Raises:
        SettingError: nothing varies, two variants would have one name, the baseline is unknown, or a DeepSpeed JSON
            cannot be used; names the variant.
        MissingInputError, StorageError: a DeepSpeed JSON cannot be read.
    """
    named: list[tuple[str, Settings]] = list(grid.variants.items()) or [("", {})]
    for key, values in grid.axes.items():
        if not values:
            raise SettingError(f"axes.{key} has no value")
    axes = [_axis(key, values, grid) for key, values in grid.axes.items()]
    variants = []
    for (name, settings), *points in itertools.product(named, *axes):
        labels = [label for label, _, _ in points]
        merged = _on_top(settings, {key: value for _, key, value in points})
        if not any(_matches(merged, unwanted) for unwanted in grid.exclude):
            variants.append(make_variant(grid, "_".join([name, *labels] if name else labels) or "base", merged))
    _check_names(variants)
    if not variants:
        raise SettingError("every variant is excluded; take something out of exclude")
    if grid.baseline is not None and grid.baseline not in {variant.name for variant in variants}:
        raise SettingError(_unknown_variant(grid.baseline, [variant.name for variant in variants]))
    return variants


def make_variant(grid: Grid, name: str, settings: Settings) -> Variant:
    """A variant from its settings.

    Raises:
        SettingError: a setting that the ablation fills in itself, or a DeepSpeed JSON that cannot be used.
    """
    for key in (*grid.base.overrides, *settings):
        if key in FIXED_BY_SWEEP:
            raise SettingError(f"variant {name}: {key} cannot be set in a grid: {FIXED_BY_SWEEP[key]}")
    merged = _on_top(grid.base.overrides, settings)
    overrides = {key: value for key, value in merged.items() if not _is_deepspeed(key)}
    keys = {key: value for key, value in merged.items() if _is_deepspeed(key)}
    return Variant(name, settings, overrides, _deepspeed_json(grid.base.deepspeed, keys, name))


def override_words(overrides: Mapping[str, Any]) -> list[str]:
    """`key=value` each, as the command line takes them: JSON is YAML."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items()]


def baseline_name(grid: Grid, variants: Sequence[Variant]) -> str:
    """The variant that the others are compared with."""
    return grid.baseline or variants[0].name


def _axis(key: str, values: list[Any] | dict[str, Any], grid: Grid) -> list[tuple[str, str, Any]]:
    """(label, key, value) of each point of an axis."""
    if isinstance(values, dict):
        return [(label.translate(_BAD_IN_NAMES), key, value) for label, value in values.items()]
    short = _last_word(key) if sum(_last_word(other) == _last_word(key) for other in grid.axes) == 1 else key
    if key == WHOLE_JSON:
        return [(Path(str(value)).stem, key, value) for value in values]
    return [(f"{short}={_label(value)}", key, value) for value in values]


def _last_word(key: str) -> str:
    """What an axis is called; `schedule.name` is called schedule."""
    return key.removesuffix(".name").rpartition(".")[2]


def _label(value: Any) -> str:
    text = Path(value).name if isinstance(value, str) and "/" in value else value
    words = text if isinstance(text, str) else json.dumps(value, ensure_ascii=False, separators=(",", "="))
    return words.translate(_BAD_IN_NAMES)


def _on_top(settings: Settings, later: Settings) -> Settings:
    """Both together; the later ones stand last, because `model.moe` undoes a `model.moe.num_experts` before it."""
    return {**{key: value for key, value in settings.items() if key not in later}, **later}


def _matches(settings: Settings, unwanted: Settings) -> bool:
    return all(key in settings and settings[key] == value for key, value in unwanted.items())


def _check_names(variants: Sequence[Variant]) -> None:
    seen: dict[str, Variant] = {}
    for variant in variants:
        other = seen.setdefault(variant.name, variant)
        if other is not variant:
            raise SettingError(
                f"two variants would be called {variant.name} ({other.settings} and {variant.settings}); give the values of "
                "that axis names: {name: value, …} instead of a list"
            )


def _unknown_variant(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"baseline {name} is none of the variants; {hint}"


def _is_deepspeed(key: str) -> bool:
    return key == WHOLE_JSON or key.startswith(f"{WHOLE_JSON}.")


def _deepspeed_json(base: Path, keys: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The base's file or the variant's own, with single keys set on top; null takes a key out."""
    whole = keys.get(WHOLE_JSON)
    content: Any = deepcopy(whole) if isinstance(whole, dict) else load_deepspeed_json(whole or base)
    for dotted, value in keys.items():
        if dotted != WHOLE_JSON:
            _set_key(content, dotted.removeprefix(f"{WHOLE_JSON}.").split("."), value, name)
    problems = deepspeed_problems(content)
    if problems:
        raise SettingError("\n".join(f"variant {name}: deepspeed: {problem}" for problem in problems))
    checked: dict[str, Any] = content
    return checked


def _set_key(content: dict[str, Any], path: Sequence[str], value: Any, name: str) -> None:
    place = content
    for key in path[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise SettingError(f"variant {name}: deepspeed.{'.'.join(path)}: {key} is {spell(place)}, not a mapping")
    if value is None:
        place.pop(path[-1], None)
    else:
        place[path[-1]] = value
