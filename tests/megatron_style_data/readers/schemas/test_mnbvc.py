"""MNBVC's five kinds of records, in their newer and older spelling."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.readers import Document, ReadCounters, expand_inputs
from megatron_style_data.readers.registry import READERS

Write = Callable[[str, bytes | str], Path]
Read = Callable[..., tuple[list[Document], ReadCounters]]
Lines = Callable[..., str]


def paragraph(line: int, text: str, repeated: bool = False, **more: Any) -> dict[str, Any]:
    return {"行号": line, "是否重复": repeated, "是否跨文件重复": False, "md5": "", "内容": text, **more}


NEWER = {
    "文件名": "a.txt",
    "是否待查文件": False,
    "是否重复文件": False,
    "文件大小": 90,
    "simhash": 7,
    "最长段落长度": 9,
    "段落数": 3,
    "去重段落数": 2,
    "低质量段落数": 0,
    "段落": [
        paragraph(1, "村口有一棵老树。", 扩展字段="{}"),
        paragraph(2, "树下常有人下棋。", 扩展字段="{}"),
        paragraph(5, "村口有一棵老树。", True, 扩展字段="{}"),
    ],
    "扩展字段": '{"url": "https://example.org/a", "license": "CC0"}',
    "时间": "20240131",
}
OLDER = {"文件名": "b.txt", "段落": [paragraph(1, "雨下了一夜。", 拓展字段=None)], "拓展字段": None}
QUESTION = {
    "id": "x1",
    "问": "树有多高？",
    "答": "十来米。",
    "来源": "村志",
    "元数据": {"create_time": "20240131 08:00:00", "扩展字段": '{"会话": 3, "多轮序号": 1}'},
}


def test_a_file_is_its_paragraphs_a_line_each(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("a.jsonl.gz", lines(NEWER, OLDER)))
    assert [document.text for document in documents] == [
        "村口有一棵老树。\n树下常有人下棋。\n村口有一棵老树。",
        "雨下了一夜。",
    ]
    assert documents[0].fields == {
        "id": "a.txt",
        "time": "20240131",
        "url": "https://example.org/a",
        "license": "CC0",
    }
    assert documents[1].fields == {"id": "b.txt"}


def test_repeated_paragraphs_can_be_left_out(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("a.jsonl", lines(NEWER)), skip_repeated_paragraphs=True)
    assert documents[0].text == "村口有一棵老树。\n树下常有人下棋。"


def test_a_poem_carries_its_title_and_author(write: Write, read: Read, lines: Lines) -> None:
    poem = paragraph(1, "云来山更佳，云去山如画。", 标题="山中", 作者="某人")
    documents, _ = read(write("a.jsonl", lines({**OLDER, "段落": [poem]})))
    assert documents[0].text == "山中\n某人\n云来山更佳，云去山如画。"
    assert (documents[0].fields["title"], documents[0].fields["author"]) == ("山中", "某人")


@pytest.mark.parametrize(
    ("paragraphs", "found"),
    [
        ("none", r"field '段落' is not a list of paragraphs"),
        ([paragraph(1, "好"), {"行号": 2, "内容": None}], r"paragraph 2 of '段落': field '内容' is not a string"),
    ],
)
def test_paragraphs_that_are_none_are_counted(
    paragraphs: Any, found: str, write: Write, read: Read, lines: Lines
) -> None:
    path = write("a.jsonl", lines(OLDER, {**OLDER, "段落": paragraphs}))
    documents, counters = read(path)
    assert len(documents) == 1
    assert counters.first_places == {"no_text": [f"{path}, line 2: {found}"]}


def test_question_and_answer_are_a_dialogue(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("a.jsonl", lines(QUESTION, {**QUESTION, "id": 2, "答": ""})))
    assert [document.text for document in documents] == ["问：树有多高？\n\n答：十来米。", "问：树有多高？"]
    assert documents[0].fields["conversations"] == [
        {"role": "user", "content": "树有多高？"},
        {"role": "assistant", "content": "十来米。"},
    ]
    assert documents[0].fields["time"] == "20240131 08:00:00"
    assert (documents[0].fields["source"], documents[1].fields["id"]) == ("村志", 2)


def test_turns_of_one_dialogue_are_one_document(write: Write, read: Read, lines: Lines) -> None:
    def turn(id: str, talk: int, number: int) -> dict[str, Any]:
        extension = json.dumps({"会话": talk, "多轮序号": number}, ensure_ascii=False)
        return {**QUESTION, "id": id, "问": f"问题{number}", "答": f"回答{number}", "元数据": {"扩展字段": extension}}

    path = write("a.jsonl", lines(turn("x", 0, 1), turn("x", 0, 2), turn("y", 1, 1), turn("y", 2, 2), turn("y", 2, 1)))
    documents, _ = read(path)
    assert [(document.place, document.text.count("问：")) for document in documents] == [(1, 2), (3, 1), (4, 1), (5, 1)]
    assert documents[0].text == "问：问题1\n\n答：回答1\n\n问：问题2\n\n答：回答2"
    assert len(documents[0].fields["conversations"]) == 4
    (file,) = expand_inputs([path])
    assert READERS[file.format].parts is None  # a cut could part a dialogue


def test_a_dialogue_does_not_grow_without_end(write: Write, read: Read, lines: Lines) -> None:
    turns = [
        {**QUESTION, "问": "一" * 100, "元数据": {"扩展字段": json.dumps({"会话": 1, "多轮序号": number})}}
        for number in range(8)
    ]
    documents, _ = read(write("a.jsonl", lines(*turns)), max_document_bytes=1000)
    assert [document.place for document in documents] == [1, 3, 5, 7]


def test_a_thread_is_its_subject_and_replies(write: Write, read: Read, lines: Lines) -> None:
    thread = {
        "ID": 12,
        "主题": "老树怎么养",
        "来源": "论坛",
        "回复": [{"楼ID": "1", "回复": "少浇水。", "扩展字段": ""}, {"楼ID": "2", "回复": "多晒太阳。"}],
        "元数据": {"扩展字段": '{"板块": "园艺"}'},
    }
    documents, counters = read(write("a.jsonl", lines(thread, {**thread, "回复": None})))
    assert documents[0].text == "老树怎么养\n\n少浇水。\n\n多晒太阳。"
    assert documents[0].fields == {"id": 12, "title": "老树怎么养", "source": "论坛", "replies": 2, "板块": "园艺"}
    assert counters.dropped == {"no_text": 1}


def test_code_keeps_where_it_came_from(write: Write, read: Read, lines: Lines) -> None:
    code = {
        "来源": "某站",
        "仓库名": "someone/project",
        "path": "src/a.c",
        "文件名": "a.c",
        "ext": "c",
        "size": 14,
        "原始编码": "gbk",
        "md5": "0",
        "text": "int main(){}\n",
    }
    documents, _ = read(write("a.jsonl", lines(code)))
    assert documents[0].text == "int main(){}\n"
    assert documents[0].fields["repository"] == "someone/project"
    assert (documents[0].fields["path"], documents[0].fields["encoding"]) == ("src/a.c", "gbk")


def test_parallel_texts_stand_below_each_other_chinese_first(write: Write, read: Read, lines: Lines) -> None:
    items = [
        {"行号": 1, "是否重复": False, "en_text": "An old tree.", "zh_text": "一棵老树。", "zh_text_md5": "0"},
        {"行号": 2, "是否重复": True, "en_text": "Rain.", "zh_text": "雨。", "fr_text": ""},
    ]
    documents, _ = read(write("a.jsonl", lines({"文件名": "p", "段落": items})))
    assert documents[0].text == "一棵老树。\nAn old tree.\n\n雨。\nRain."
    assert documents[0].fields == {"languages": ["zh", "en"], "id": "p"}
