"""CCI, C4, SkyPile, WuDao and nlp_chinese_corpus: text and fields of a record, in the files they come in."""

import json
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

BODY = "老树在村口站了三百年。\n村里人都在树下乘凉。"


@pytest.mark.parametrize("more", [{}, {"meta_info": '{"url": "https://example.org"}'}])
def test_cci_reads_content_from_lines(more: dict[str, Any], write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("part_0.jsonl", lines({"id": "a1", "content": BODY, **more})))
    assert documents[0].text == BODY
    meta = {"meta_info": {"url": "https://example.org"}} if more else {}
    assert documents[0].fields == {"id": "a1", **meta}


def test_cci2_reads_content_from_parquet(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["1", "2"], "content": [BODY, None]}), path)
    documents, counters = read(path)
    assert [(document.text, document.fields) for document in documents] == [(BODY, {"id": "1"})]
    assert counters.first_places == {"no_text": [f"{path}, row 2: field 'content' is null, not a string"]}


def test_cci3_hq_reads_text_and_can_be_cut_by_score(write: Write, read: Read, lines: Lines) -> None:
    records = [{"id": number, "text": BODY, "score": score} for number, score in enumerate([3.1, 2.9, None, "4"])]
    path = write("part_000000.jsonl", lines(*records))
    documents, counters = read(path, min_score=3)
    assert [document.fields for document in documents] == [{"id": 0, "score": 3.1}]
    assert counters.dropped == {"low_score": 1, "no_score": 2}
    assert counters.first_places["low_score"] == [f"{path}, line 2: score 2.9"]
    assert counters.first_places["no_score"][0] == f"{path}, line 3: no number in the field 'score'"
    assert counters.bad == 0
    assert len(read(path)[0]) == 4


def test_mc4_is_lines_in_spite_of_its_name(write: Write, read: Read, lines: Lines) -> None:
    record = {"text": BODY, "timestamp": "2019-04-22T00:00:00Z", "url": "https://example.org/1"}
    documents, _ = read(write("c4-zh.tfrecord-00000-of-01024.json.gz", lines(record)))
    assert documents[0].text == BODY
    assert documents[0].fields == {"time": "2019-04-22T00:00:00Z", "url": "https://example.org/1"}


def test_skypile_is_text_alone(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("2020-40_zh_head_0000.jsonl", lines({"text": BODY})))
    assert (documents[0].text, documents[0].fields) == (BODY, {})


WUDAO = {"id": 1, "uniqueKey": "u", "titleUkey": "t", "dataType": "百科", "title": "老树", "content": BODY}


@pytest.mark.parametrize(
    "form",
    [
        lambda records: json.dumps(records, ensure_ascii=False),
        lambda records: json.dumps({"RECORDS": records}, ensure_ascii=False, indent=4),
        lambda records: "".join(json.dumps(record) + "\n" for record in records),
    ],
)
def test_wudao_joins_title_and_content(form: Callable[[Any], str], write: Write, read: Read) -> None:
    records = [WUDAO, {**WUDAO, "id": 2, "content": "# 老树\n" + BODY}, {**WUDAO, "id": 3, "content": None}]
    documents, counters = read(write("part-2021.json", form(records)))
    assert [document.text for document in documents] == ["老树\n" + BODY, "# 老树\n" + BODY]
    assert documents[0].fields == {
        "id": 1,
        "uniqueKey": "u",
        "titleUkey": "t",
        "category": "百科",
        "title": "老树",
    }
    assert counters.dropped == {"no_text": 1}


NLP_CHINESE = {
    "wiki_zh": ({"id": "5", "url": "https://example.org/5", "title": "老树", "text": "老树\n\n" + BODY}, "老树\n\n" + BODY),
    "news": (
        {"news_id": "9", "title": "老树开花", "content": BODY, "keywords": "树", "desc": "简讯", "source": "报", "time": ""},
        "老树开花\n" + BODY,
    ),
    "webtext": (
        {"qid": 3, "title": "老树能活多久？", "desc": "村口有一棵。", "topic": "植物", "star": 8, "content": BODY,
         "answer_id": 4, "answerer_tags": ""},
        "老树能活多久？\n村口有一棵。\n\n" + BODY,
    ),
    "baike": (
        {"qid": "q", "category": "植物", "title": "老树怎么浇水？", "desc": "", "answer": "见干见湿。"},
        "老树怎么浇水？\n\n见干见湿。",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NLP_CHINESE)
def test_nlp_chinese_corpus_keeps_titles_and_questions(kind: str, write: Write, read: Read, lines: Lines) -> None:
    record, text = NLP_CHINESE[kind]
    documents, _ = read(write("train.json", lines(record)))
    assert documents[0].text == text
    assert documents[0].fields["title"] == record["title"]
    assert documents[0].fields["id"] == next(iter(record.values()))


@pytest.mark.parametrize("format", ["nlp_chinese_baike", "cci", "wudao", "question_answer", "smoltalk_chinese"])
def test_a_record_of_another_corpus_says_what_it_has(format: str, write: Write, read: Read, lines: Lines) -> None:
    documents, counters = read(write("a.jsonl", lines({"body": "好"})), format=format)
    assert documents == []
    assert "(found: 'body')" in counters.first_places["no_text"][0]


def test_a_named_text_field_wins_over_the_corpus(write: Write, read: Read, lines: Lines) -> None:
    documents, _ = read(write("a.json", lines(NLP_CHINESE["news"][0])), text_field="desc")
    assert documents[0].text == "简讯"
