"""Step decontamination, and the evaluation files it reads."""

import gzip
import json
from pathlib import Path

import pytest

from megatron_style_data.errors import BadDataError, MissingInputError

QUESTION = "下列关于黄河流域早期农业文明的说法中，哪一项与考古发现不相符合？"
CEVAL = "id,question,A,B,C,D,answer,explanation\n0,{},种植粟和黍,饲养猪和狗,使用磨制石器,大量种植玉米,D,\n"
CMMLU = ",Question,A,B,C,D,Answer\n0,{},种植粟和黍,饲养猪和狗,使用磨制石器,大量种植玉米,D\n"


@pytest.mark.parametrize("shape", [CEVAL, CMMLU])
def test_a_text_with_a_question_is_dropped_and_one_about_the_matter_is_kept(
    run_step, tmp_path: Path, shape: str, story: str
) -> None:
    file = tmp_path / "history_test.csv"
    file.write_text(shape.format(QUESTION), "utf-8")
    copied = f"{story}题目：{QUESTION.replace('，', ' , ')} 答案是丁。"
    failed = run_step("decontamination", copied, against=[str(file)]).failed
    assert failed.name == "item_share"
    assert failed.detail == "history_test.csv:2"
    about = "黄河流域早期农业文明种植粟和黍，也饲养猪和狗，考古发现了许多磨制石器。"
    assert run_step("decontamination", about, against=[str(file)]).failed is None


def test_a_long_run_of_an_evaluation_passage_is_dropped(run_step, tmp_path: Path, story: str) -> None:
    passages = tmp_path / "passages.jsonl"
    long_text = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(2000))
    passages.write_text(json.dumps({"text": long_text}) + "\n", "utf-8")
    for length, dropped in ((49, False), (50, True)):
        copied = story + "。" + long_text[500 : 500 + length] + "。" + story
        outcome = run_step("decontamination", copied, against=[str(passages)])
        assert outcome.measures[1].value == length
        assert (outcome.failed is not None) == dropped


def test_what_many_questions_share_says_nothing(run_step, tmp_path: Path) -> None:
    phrase = "下列各项说法当中正确的一项应该是哪个"
    file = tmp_path / "set.jsonl"
    file.write_text("".join(json.dumps({"question": phrase}) + "\n" for _ in range(10)), "utf-8")
    assert run_step("decontamination", phrase, against=[str(file)]).failed is None
    assert run_step("decontamination", phrase, against=[str(file)], common_from=11).failed is not None


def test_short_questions_are_matched_together_with_their_choices(run_step, tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps({"question": "谁写了红楼梦？", "choices": ["曹雪芹与高鹗两人", "罗贯中"]}), "utf-8")
    assert run_step("decontamination", "谁写了红楼梦曹雪芹与高鹗两人", against=[str(file)]).failed is not None


def test_folders_arrays_and_packed_files_are_read(run_step, tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.json").write_text(json.dumps([{"instruction": QUESTION}]), "utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"题目": QUESTION[::-1]}).encode()))
    for text in (QUESTION, QUESTION[::-1]):
        assert run_step("decontamination", text, against=[str(folder)]).failed is not None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{no json}\n", r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", "3\n", r"a\.jsonl, item 1: a JSON int; expected an object"),
        ("a.jsonl", '{"question": "短"}\n', "no item has 13 letters in a row"),
        ("a.csv", "id,question\n", "holds no evaluation item"),
    ],
)
def test_evaluation_files_that_hold_nothing_are_refused(
    run_step, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(BadDataError, match=message):
        run_step("decontamination", "文", against=[str(tmp_path / name)])


def test_evaluation_files_that_are_missing_or_not_utf8_are_named(run_step, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no evaluation file; expected \.csv"):
        run_step("decontamination", "文", against=[str(tmp_path / "none*.csv")])
    (tmp_path / "gbk.csv").write_bytes("id,question\n0,问题\n".encode("gbk"))
    with pytest.raises(BadDataError, match=r"gbk\.csv, line 2: not UTF-8"):
        run_step("decontamination", "文", against=[str(tmp_path / "gbk.csv")])
