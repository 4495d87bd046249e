"""The fast way from JSON text to a record gives what the patient one gives, or nothing."""

from pathlib import Path

import pytest

from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.json_records import parse_object, strict_object


@pytest.fixture
def bad() -> BadDocuments:
    return BadDocuments(InputFile(Path("a.jsonl"), "a.jsonl", "jsonl"), ReadOptions(), ReadCounters())


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "村民们\\n都很高兴\\u4e2d\\ud83d\\ude00", "n": [1, -2.5e-3, true, null, {"a": ""}]}',
        '{"text": "a", "text": "b"}  ',
        '{"id": 9223372036854775807, "big": 18446744073709551615, "x": 0.1}',
        "{}",
    ],
)
def test_strict_records_are_the_same_both_ways(line: str, bad: BadDocuments) -> None:
    found = strict_object(line.encode())
    assert found is not None
    assert found == parse_object(line, "line 1", bad, line.encode())


@pytest.mark.parametrize(
    "line",
    [
        '{"id": 123456789012345678901234567890}',
        '{"a": [{"id": -99999999999999999999}]}',
        '{"score": NaN}',
        '{"text": "\\ud800"}',
        '{"text": "a\tb"}',
        '\ufeff{"text": "a"}',
        '{"a": ' * 2000 + "1" + "}" * 2000,
        "[1]",
        '"text"',
        "{",
        "",
    ],
)
def test_everything_else_is_left_to_the_patient_way(line: str) -> None:
    assert strict_object(line.encode()) is None


def test_bytes_that_are_not_utf8_are_left_to_the_patient_way() -> None:
    assert strict_object(b'{"text": "\xff"}') is None
