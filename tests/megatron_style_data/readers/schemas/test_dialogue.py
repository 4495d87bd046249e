"""Dialogues in every shape become readable text, and keep their turns for later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from megatron_style_data.readers import Document, ReadCounters

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]
Lines = Callable[..., str]

TURNS = [{"role": "user", "content": "老树有多高？"}, {"role": "assistant", "content": "十来米。"}]
TEXT = "用户：老树有多高？\n\n助手：十来米。"


def from_value(turns: list[dict[str, str]], user: str = "human", assistant: str = "gpt") -> list[dict[str, str]]:
    names = {"user": user, "assistant": assistant}
    return [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": TURNS},
        {"conversations": from_value(TURNS)},
        {"conversations": from_value(TURNS, "user", "assistant")},
        {"messages": TURNS},
        {"conversation": [{"human": "老树有多高？", "assistant": "十来米。"}]},
    ],
)
def test_every_shape_gives_the_same_text_and_turns(
    record: dict[str, Any], write: Write, read: Read, lines: Lines
) -> None:
    documents, _ = read(write("a.jsonl", lines({"id": 7, **record})))
    assert documents[0].text == TEXT
    assert documents[0].fields == {"id": 7, "conversations": TURNS}


@pytest.mark.parametrize("turns", [TURNS, from_value(TURNS)])
def test_smoltalk_in_parquet_is_filtered_by_score(turns: list[dict[str, str]], tmp_path: Path, read: Read) -> None:
    path = tmp_path / "everyday.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"conversations": [turns, turns], "score": [4.0, 3.5]}), path)
    documents, counters = read(path, min_score=4)
    assert [document.text for document in documents] == [TEXT]
    assert documents[0].fields == {"conversations": TURNS, "score": 4.0}
    assert counters.dropped == {"low_score": 1}


def test_system_and_tool_turns_have_their_labels_and_empty_turns_go(write: Write, read: Read, lines: Lines) -> None:
    turns = [
        {"role": "system", "content": "你是园丁。"},
        TURNS[0],
        {"role": "tool", "content": "12 m"},
        {"role": "assistant", "content": None},
    ]
    documents, _ = read(write("a.jsonl", lines({"messages": turns})))
    assert documents[0].text == "系统：你是园丁。\n\n用户：老树有多高？\n\n工具：12 m"


@pytest.mark.parametrize(
    ("turns", "found"),
    [
        ([*TURNS, {"role": "narrator", "content": "x"}], "turn 3 of 'conversations' has the role 'narrator'"),
        ([TURNS[0], {"text": "x"}], "turn 2 of 'conversations' has no role (found: 'text')"),
        ([TURNS[0], {"role": "user", "content": 5}], "turn 2 of 'conversations' is int, not a string"),
        ([], "no list of turns in 'conversations', 'messages', 'conversation' (found: 'conversations')"),
    ],
)
def test_a_dialogue_that_cannot_be_is_counted(
    turns: list[Any], found: str, write: Write, read: Read, lines: Lines
) -> None:
    path = write("a.jsonl", lines({"conversations": TURNS}, {"conversations": turns}))
    documents, counters = read(path)
    assert len(documents) == 1
    assert counters.first_places == {"no_text": [f"{path}, line 2: {found}"]}


def test_pairs_are_questions_and_answers(write: Write, read: Read, lines: Lines) -> None:
    records = [
        {"input": "树高？", "output": "十米。"},
        {"instruction": "翻译", "input": "树", "output": "tree", "n": 1},
    ]
    documents, _ = read(write("a.jsonl", lines(*records)))
    assert [document.text for document in documents] == ["问：树高？\n\n答：十米。", "问：翻译\n树\n\n答：tree"]
    assert documents[1].fields["n"] == 1
    assert [turn["role"] for turn in documents[1].fields["conversations"]] == ["user", "assistant"]
