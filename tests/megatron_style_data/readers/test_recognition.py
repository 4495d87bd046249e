"""``auto``: the name, the first bytes and the first records say the format, and why is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from megatron_style_data.errors import SettingError
from megatron_style_data.readers import FORMATS, READERS, expand_inputs
from megatron_style_data.readers.registry import CONTAINERS
from megatron_style_data.readers.schemas import SCHEMAS

Write = Callable[[str, bytes | str], Path]
Lines = Callable[..., str]


@pytest.mark.parametrize(
    ("name", "record", "format"),
    [
        ("a.jsonl", {"文件名": "a", "段落": []}, "mnbvc.jsonl"),
        ("a.jsonl", {"文件名": "a", "段落": [{"zh_text": "树", "en_text": "tree"}]}, "mnbvc_parallel.jsonl"),
        ("a.jsonl", {"id": 1, "问": "树？", "答": "", "来源": "x", "元数据": {}}, "mnbvc_qa.jsonl"),
        ("a.jsonl", {"ID": 1, "主题": "树", "来源": "x", "回复": [], "元数据": {}}, "mnbvc_forum.jsonl"),
        ("a.jsonl", {"来源": "x", "仓库名": "x/y", "path": "a.c", "text": "int a;"}, "mnbvc_code.jsonl"),
        ("a.jsonl", {"conversations": [{"from": "human", "value": "树？"}]}, "smoltalk_chinese.jsonl"),
        ("a.jsonl", {"messages": [{"role": "user", "content": "树？"}], "score": 4}, "smoltalk_chinese.jsonl"),
        ("a.jsonl", {"input": "树？", "output": "树。"}, "question_answer.jsonl"),
        ("a.json", {"id": 1, "uniqueKey": "u", "dataType": "x", "title": "t", "content": "树"}, "wudao.jsonl"),
        ("a.json", {"news_id": 1, "title": "t", "content": "树", "source": "x"}, "nlp_chinese_news.jsonl"),
        ("a.json", {"qid": 1, "title": "t", "desc": "", "content": "树", "star": 1}, "nlp_chinese_webtext.jsonl"),
        ("a.json", {"qid": 1, "category": "c", "title": "t", "answer": "树"}, "nlp_chinese_baike.jsonl"),
        ("a.json", {"id": "1", "url": "u", "title": "t", "text": "树"}, "nlp_chinese_wiki.jsonl"),
        ("a.jsonl", {"id": 1, "text": "树", "score": 3.0}, "cci3_hq.jsonl"),
        ("a.jsonl", {"id": "1", "content": "树", "meta_info": "{}"}, "cci.jsonl"),
        ("a.json", {"text": "树", "timestamp": "2019", "url": "u"}, "c4.jsonl"),
        ("c4-zh.tfrecord-00001-of-01024.json.gz", {"text": "树"}, "c4.jsonl"),
        ("SkyPile-150B/data/2022-27_zh_middle_0009.jsonl", {"text": "树"}, "skypile.jsonl"),
        ("SkyPile-150B/other.jsonl", {"text": "树", "lang": "zh"}, "jsonl"),
        ("arc4n.jsonl", {"text": "树"}, "jsonl"),
        ("a.jsonl", {"title": "t", "text": "树"}, "jsonl"),
        ("a.txt", {"id": 1, "text": "树", "score": 3.0}, "text"),
    ],
)
def test_records_and_names_say_the_corpus(name: str, record: object, format: str, write: Write, lines: Lines) -> None:
    (file,) = expand_inputs([write(name, lines(record, record))])
    assert file.format == format
    assert file.why


def test_why_names_container_corpus_and_how_many_records(write: Write, lines: Lines) -> None:
    good, other = {"id": 1, "text": "树", "score": 3.0}, {"text": "树", "score": 3.0}
    (file,) = expand_inputs([write("a.jsonl", "not json\n" + lines(*[good] * 20, other))])
    assert file.why == "JSON lines; 16 of the first 16 records look like BAAI CCI 3-HQ: id, text, score"
    (file,) = expand_inputs([write("c4-en.json", lines(other, good, good, other, other))])
    assert file.why == "JSON lines; the name says c4, and the first 5 records fit it"


def test_an_array_and_parquet_are_recognised_by_their_bytes(tmp_path: Path, write: Write) -> None:
    record = {"id": "1", "content": "树"}
    (file,) = expand_inputs([write("a.jsonl", json.dumps([record]))])
    assert file.format == "cci.json"
    (file,) = expand_inputs([write("b.json", json.dumps({"RECORDS": [record]}))])
    assert file.format == "cci.json"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["1"], "content": ["树"]}), tmp_path / "c")
    (file,) = expand_inputs([tmp_path / "c"])
    assert file.format == "cci.parquet"


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.jsonl", b"", "jsonl"),
        ("a.jsonl.gz", b"\x1f\x8b", "jsonl"),
        ("a.json", b'[{"id": 1', "json"),
        ("a.parquet", b"nothing", "parquet"),
        ("a.jsonl", b"{broken\n" * 100, "jsonl"),
    ],
)
def test_what_cannot_be_read_keeps_the_format_of_its_name(
    name: str, content: bytes, format: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (file,) = expand_inputs([tmp_path / name])
    assert file.format == format


def test_gb18030_records_are_recognised_too(write: Write, lines: Lines) -> None:
    record = {"问": "老树在村口站了多少年？", "答": "三百年。", "id": 1}
    (file,) = expand_inputs([write("a.jsonl", lines(record).encode("gb18030"))])
    assert file.format == "mnbvc_qa.jsonl"


@pytest.mark.parametrize(("content", "container"), [('[{"id": 1}]', "json"), ('{"id": 1}', "jsonl"), ("", "jsonl")])
def test_a_corpus_that_was_asked_for_is_read_from_whatever_holds_it(content: str, container: str, write: Write) -> None:
    (file,) = expand_inputs([write("a", content)], "cci")
    assert (file.format, file.why) == (f"cci.{container}", "")


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"format 'wudao\.json' is not known; choose auto, jsonl, .*wudao"):
        expand_inputs(["x"], "wudao.json")


def test_every_reader_says_what_it_reads_and_how_it_can_be_cut() -> None:
    assert all(spec.about and spec.unit for spec in READERS.values())
    assert {name for name, spec in READERS.items() if spec.parts == "row_groups"} == {
        name for name in READERS if f".{name}".endswith(".parquet") and not name.startswith("mnbvc_qa")
    }
    assert READERS["text"].parts is READERS["cluecorpus"].parts is READERS["wudao.json"].parts is None
    assert READERS["jsonl"].parts == READERS["mnbvc.jsonl"].parts == "lines"
    assert set(FORMATS) >= {*SCHEMAS, *CONTAINERS} - {"hf"}
