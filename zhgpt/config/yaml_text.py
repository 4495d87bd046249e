"""Reads YAML into plain values with line numbers: duplicate keys refused, 6e-4 a number, dates left as text."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from zhgpt.errors import SettingError

DEEPEST_RECORDED = 4
_FLOAT_TAG = "tag:yaml.org,2002:float"
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_INTEGER_TAG = "tag:yaml.org,2002:int"
_INTEGER = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_SWITCH_TAG = "tag:yaml.org,2002:bool"
_SWITCH = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")


class _Loader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
    """SafeLoader with YAML 1.2's plain scalars, as JSON has them.

    YAML 1.1 reads 6e-4 as text, 010 as 8, 1:30 as 90, `no` as false and 2024-01-01 as a date; a setting is none of
    these by surprise.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] in ("null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver(_INTEGER_TAG, _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver(_SWITCH_TAG, _SWITCH, list("tTfF"))


@dataclass(frozen=True, slots=True)
class YamlText:
    """Parsed YAML: its value, and the line (1-based) of each key, by dotted name."""

    value: Any
    lines: dict[str, int]


def parse_yaml(text: str, origin: str) -> YamlText:
    """Parse one YAML document.

    Args:
        text: the document.
        origin: what the error sentences call it, a file or an override.

    Raises:
        SettingError: not YAML, a key twice, or a tag that asks for anything but plain values.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlText(None, {})
        lines: dict[str, int] = {}
        _record_lines(node, "", 1, lines, origin)
        return YamlText(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise SettingError(f"{origin}{place}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SettingError(f"{origin}: not YAML: {' '.join(str(error).split())}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _record_lines(node: yaml.Node, prefix: str, depth: int, lines: dict[str, int], origin: str) -> None:
    """Note the line of every key down to the depth that settings have, and refuse a key that comes twice."""
    if depth > DEEPEST_RECORDED:
        return
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _record_lines(item, f"{prefix}{number}.", depth + 1, lines, origin)
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise SettingError(f"{origin} line {key_node.start_mark.line + 1}: a key must be a word")
        key, line = prefix + key_node.value, key_node.start_mark.line + 1
        if key in lines:
            raise SettingError(f"{origin} line {line}: {key} is given twice, first in line {lines[key]}; keep one")
        lines[key] = line
        _record_lines(value_node, f"{key}.", depth + 1, lines, origin)
