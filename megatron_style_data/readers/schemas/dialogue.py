"""Dialogues: smoltalk_chinese with {from, value} or {role, content}, {human, assistant} turns, input and output pairs.

The text of a dialogue is its turns with 用户, 助手, 系统 or 工具 before each and an empty line between; the field
``conversations`` keeps them as [{role, content}] with the roles user, assistant, system and tool.
"""

from typing import Any

from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.schemas.schema import Extracted, Record, Schema, has, rest, string_or_why

_KEYS = ("conversations", "messages", "conversation")
_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "bing", "bard"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
_LABELS = {"user": "用户", "assistant": "助手", "system": "系统", "tool": "工具"}
_SHAPES = (("from", "value"), ("role", "content"))


def _turns_of(record: Record) -> tuple[str, list[Any]] | None:
    for name in _KEYS:
        turns = record.get(name)
        if isinstance(turns, list) and turns and all(isinstance(turn, dict) for turn in turns):
            return name, turns
    return None


def _is_dialogue(record: Record) -> bool:
    found = _turns_of(record)
    if found is None:
        return False
    first = found[1][0]
    return "human" in first or any(has(first, *shape) for shape in _SHAPES)


def _one_turn(turn: Record) -> list[tuple[str, Any]] | str:
    """(role, what was said) of a turn; a {human, assistant} turn is two."""
    if "human" in turn:
        return [("user", turn["human"]), ("assistant", turn.get("assistant"))]
    for said_by, said in _SHAPES:
        if turn.get(said_by) is not None:
            role = _ROLES.get(str(turn[said_by]).lower())
            return f"has the role {turn[said_by]!r}" if role is None else [(role, turn.get(said))]
    return f"has no role (found: {', '.join(map(repr, turn))})"


def _dialogue(record: Record, options: ReadOptions) -> Extracted | str:
    found = _turns_of(record)
    if found is None:
        return f"no list of turns in {', '.join(map(repr, _KEYS))} (found: {', '.join(map(repr, record)) or 'none'})"
    name, turns = found
    said: list[tuple[str, str]] = []
    for number, turn in enumerate(turns, 1):
        parts = _one_turn(turn)
        if isinstance(parts, str):
            return f"turn {number} of {name!r} {parts}"
        for role, text in parts:
            if not isinstance(text, str | None):
                return f"turn {number} of {name!r} is {type(text).__name__}, not a string"
            if text and text.strip():
                said.append((role, text.strip()))
    fields = {"id" if key == "conversation_id" else key: value for key, value in rest(record, name).items()}
    return Extracted(
        "\n\n".join(f"{_LABELS[role]}：{text}" for role, text in said),
        {**fields, "conversations": [{"role": role, "content": text} for role, text in said]},
    )


def _pair(record: Record, options: ReadOptions) -> Extracted | str:
    answer, why = string_or_why(record, "output")
    if why is not None:
        return why
    asked = [record.get(name) for name in ("instruction", "input")]
    question = "\n".join(part.strip() for part in asked if isinstance(part, str) and part.strip())
    said = [("user", "问", question), ("assistant", "答", answer.strip())]
    said = [turn for turn in said if turn[2]]
    return Extracted(
        "\n\n".join(f"{label}：{text}" for _, label, text in said),
        {
            **rest(record, "instruction", "input", "output"),
            "conversations": [{"role": role, "content": text} for role, _, text in said],
        },
    )


DIALOGUE = Schema("dialogues such as smoltalk_chinese: conversations of {from, value} or {role, content}",
                  _is_dialogue, _dialogue)  # fmt: skip
PAIRS = Schema(
    "questions and answers: (instruction,) input, output",
    lambda record: has(record, "input", "output") or has(record, "instruction", "output"),
    _pair,
)
