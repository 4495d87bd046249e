"""YAML as settings want it: plain values, line numbers, no surprises of YAML 1.1."""

import math

import pytest

from zhgpt.config.yaml_text import parse_yaml
from zhgpt.errors import SettingError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6e-4", 6e-4),
        ("1.5", 1.5),
        ("1e5", 1e5),
        ("0", 0),
        ("-3", -3),
        ("524_288", 524_288),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("'3'", "3"),
        ("中国", "中国"),
        ("[a, 1]", ["a", 1]),
    ],
)
def test_plain_scalars_are_read_as_in_json(text: str, value: object) -> None:
    parsed = parse_yaml(text, "here").value
    assert parsed == value
    assert type(parsed) is type(value)


def test_infinity_and_nan_are_numbers_that_the_schema_refuses() -> None:
    assert parse_yaml(".inf", "here").value == math.inf
    assert math.isnan(parse_yaml(".nan", "here").value)


def test_lines_of_keys_are_recorded() -> None:
    parsed = parse_yaml("# comment\na:\n  b: 1\n  c: {d: 2}\n", "f.yaml")
    assert parsed.lines == {"a": 2, "a.b": 3, "a.c": 4, "a.c.d": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml line 3: a is given twice, first in line 1; keep one"),
        ("a:\n  b: 1\n  b: 2", "f.yaml line 3: a.b is given twice, first in line 2; keep one"),
        ("? [1, 2]\n: 3", "f.yaml line 1: a key must be a word"),
        ("a: 1\n b: 2", "f.yaml line 2, column 3: not YAML: mapping values are not allowed here"),
        ("a: *nowhere", "f.yaml line 1, column 4: not YAML: found undefined alias 'nowhere'"),
        (
            "a: !!python/name:os.system",
            "f.yaml line 1, column 4: not YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/name:os.system'",
        ),
        ("a: 1\n---\nb: 2", "f.yaml line 2, column 1: not YAML: but found another document"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value) == message


def test_a_control_character_is_refused() -> None:
    with pytest.raises(SettingError, match=r"f.yaml: not YAML: unacceptable character #x0000"):
        parse_yaml("a: \x00", "f.yaml")


def test_an_alias_that_contains_itself_does_not_hang() -> None:
    assert "a" in parse_yaml("a: &x {b: *x}", "f.yaml").value
