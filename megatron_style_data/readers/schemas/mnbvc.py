"""liwu/MNBVC: files as lists of paragraphs, question and answer, forum threads, code, parallel texts.

Older files spell 拓展字段 for 扩展字段 and lack 时间 and 文件大小: nothing here needs them.
Source: wiki.mnbvc.org (现有语料格式) and the project's DataCheck_MNBVC.
"""

import re
from typing import Any

from megatron_style_data.readers.options import ReadOptions
from megatron_style_data.readers.schemas.schema import (
    Extracted,
    Record,
    Schema,
    has,
    joined,
    parsed,
    rest,
    string_or_why,
)

_EXTENSIONS = ("扩展字段", "拓展字段")
_LANGUAGE_TEXT = re.compile(r"([a-z0-9]+)_text")


def _paragraphs(record: Record) -> list[Record] | None:
    items = record.get("段落")
    if isinstance(items, list) and all(isinstance(item, dict) for item in items):
        return items
    return None


def _extension(record: Record) -> dict[str, Any]:
    """What 扩展字段 or 拓展字段 says, where it says something."""
    for name in _EXTENSIONS:
        value = parsed(record.get(name))
        if value:
            return value if isinstance(value, dict) else {"extension": value}
    return {}


def _file_fields(record: Record) -> dict[str, Any]:
    common = {
        "id": record.get("文件名"),
        "time": record.get("时间"),
        "repeated_file": record.get("是否重复文件") or None,
    }
    return {**_extension(record), **{name: value for name, value in common.items() if value not in (None, "")}}


def _general(record: Record, options: ReadOptions) -> Extracted | str:
    items = _paragraphs(record)
    if items is None:
        return "field '段落' is not a list of paragraphs"
    if options.skip_repeated_paragraphs:
        items = [item for item in items if item.get("是否重复") is not True]
    wrong = next((number for number, item in enumerate(items, 1) if not isinstance(item.get("内容"), str)), None)
    if wrong is not None:
        return f"paragraph {wrong} of '段落': field '内容' is not a string"
    texts = [joined(item.get("标题"), item.get("作者"), item["内容"]) for item in items]
    titles = {name: item[key] for item in items[:1] for name, key in _TITLES.items() if item.get(key)}
    return Extracted("\n".join(texts), {**titles, **_file_fields(record)})


# Poems carry these in the paragraph.
_TITLES = {"title": "标题", "author": "作者"}


def _parallel(record: Record, options: ReadOptions) -> Extracted | str:
    items = _paragraphs(record)
    if items is None:
        return "field '段落' is not a list of paragraphs"
    if options.skip_repeated_paragraphs:
        items = [item for item in items if item.get("是否重复") is not True]
    languages = {match[1] for item in items for name in item if (match := _LANGUAGE_TEXT.fullmatch(name))}
    ordered = sorted(languages, key=lambda language: (language != "zh", language))
    texts = [joined(*(item.get(f"{language}_text") for language in ordered)) for item in items]
    used = [language for language in ordered if any(item.get(f"{language}_text") for item in items)]
    return Extracted("\n\n".join(filter(None, texts)), {"languages": used, **_file_fields(record)})


def _question(record: Record, options: ReadOptions) -> Extracted | str:
    question, why = string_or_why(record, "问")
    answer = record.get("答") or ""
    if why is not None:
        return why
    if not isinstance(answer, str):
        return string_or_why(record, "答")[1] or ""
    turns = [("user", "问", question), ("assistant", "答", answer)]  # an answer may be missing
    said = [(role, label, text) for role, label, text in turns if text.strip()]
    details = record.get("元数据")
    details = details if isinstance(details, dict) else {}
    more = {
        "id": record.get("id"),
        "source": record.get("来源"),
        "time": details.get("create_time") or record.get("时间"),
    }
    return Extracted(
        "\n\n".join(f"{label}：{text}" for _, label, text in said),
        {
            "conversations": [{"role": role, "content": text} for role, _, text in said],
            **{name: value for name, value in more.items() if value not in (None, "")},
            **_extension(details),
        },
    )


def _goes_on(first: Extracted, second: Extracted) -> bool:
    """Turns of one dialogue have one id and 会话, and 多轮序号 that rise."""
    same = all(first.fields.get(name) == second.fields.get(name) for name in ("id", "会话", "source"))
    turn, next_turn = first.fields.get("多轮序号"), second.fields.get("多轮序号")
    if first.fields.get("id") is None or not isinstance(turn, int) or not isinstance(next_turn, int):
        return False
    return same and turn < next_turn


def _thread(record: Record, options: ReadOptions) -> Extracted | str:
    replies = record.get("回复")
    if not isinstance(replies, list):
        return "field '回复' is not a list of replies"
    texts = [reply.get("回复") for reply in replies if isinstance(reply, dict)]
    title = record.get("主题") if isinstance(record.get("主题"), str) else None
    common = {"id": record.get("ID"), "title": title, "source": record.get("来源")}
    details = record.get("元数据")
    return Extracted(
        joined(title, *texts, between="\n\n"),
        {
            **{name: value for name, value in common.items() if value not in (None, "")},
            "replies": len(texts),
            **_extension(details if isinstance(details, dict) else {}),
        },
    )


def _code(record: Record, options: ReadOptions) -> Extracted | str:
    text, why = string_or_why(record, "text")
    if why is not None:
        return why
    names = {"source": "来源", "repository": "仓库名", "path": "path", "id": "文件名", "encoding": "原始编码"}
    common = {new: record[old] for new, old in names.items() if record.get(old) not in (None, "")}
    return Extracted(text, {**common, **rest(record, "text", *names.values())})


def _is_parallel(record: Record) -> bool:
    return any("zh_text" in item or "en_text" in item for item in (_paragraphs(record) or [])[:3])


MNBVC_PARALLEL = Schema("MNBVC parallel text: 段落 of zh_text, en_text …", _is_parallel, _parallel)
MNBVC = Schema("MNBVC: one file a record, 段落 of 内容", lambda record: _paragraphs(record) is not None, _general)
MNBVC_QA = Schema("MNBVC 问答: 问, 答", lambda record: has(record, "问", "答"), _question, goes_on=_goes_on)
MNBVC_FORUM = Schema("MNBVC forum: 主题, 回复", lambda record: has(record, "主题", "回复"), _thread)
MNBVC_CODE = Schema("MNBVC code: 仓库名, text", lambda record: has(record, "仓库名", "text"), _code)
