"""Which lines of a register the hour's model is trained on."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.prose_text import sentence_lines, without_shared_lines

FORMULA = "本条例自公布之日起施行，此前的有关规定与本条例不一致的，以本条例为准，并由省人民政府负责解释。"
SHORT = "本法自公布之日起施行。"


def test_only_lines_that_end_as_sentences_stay() -> None:
    text = "# 总则\n第一条　　为了保护  古树，制定本条例。\n（草案）\n第一章 总则\n<!-- 注。\n下列情形之一的：\n"
    assert sentence_lines(text) == ["第一条 为了保护 古树，制定本条例。", "（草案）", "下列情形之一的："]


def test_a_line_goes_where_more_documents_share_thirty_of_its_characters() -> None:
    own = [
        "古树名木由所在地的乡镇人民政府负责养护，费用列入财政预算。",
        "供水企业应当保证水质，并向用户公布检测的结果。",
    ]
    documents = [[own[0], "一、" + FORMULA], [own[1], FORMULA + "附则。"]]
    assert list(without_shared_lines(documents, 1)) == [[own[0]], [own[1]]]
    assert list(without_shared_lines(documents, 2)) == documents


def test_a_line_that_a_document_repeats_is_not_shared() -> None:
    assert list(without_shared_lines([[FORMULA, FORMULA], [SHORT]], 1)) == [[FORMULA, FORMULA], [SHORT]]


def test_a_line_shorter_than_a_window_is_compared_as_it_is() -> None:
    assert list(without_shared_lines([[SHORT], [SHORT], ["附则。"], []], 1)) == [[], [], ["附则。"], []]


def test_only_the_source_that_was_asked_for_is_written(tmp_path: Path) -> None:
    corpus, target = tmp_path / "corpus.jsonl", tmp_path / "statutes.jsonl"
    long = "".join(f"第{number}条 本市第{number}号古树由第{number}街道养护。\n" for number in range(20))
    records = [
        {"text": long, "source": "laws:a"},
        {"text": SHORT, "source": "laws:b"},
        {"text": long + "补充。", "source": "news"},
    ]
    corpus.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.prose_text", str(corpus), str(target), "--source", "laws"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "1 of 2 documents" in ran.stdout
    assert [json.loads(line)["text"] for line in target.read_text(encoding="utf-8").splitlines()] == [long.strip()]


def test_no_text_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    corpus, target = tmp_path / "corpus.jsonl", tmp_path / "statutes.jsonl"
    corpus.write_text(json.dumps({"text": SHORT, "source": "laws"}) + "\n", encoding="utf-8")
    for given, said in (
        (corpus, "1 documents whose source begins with 'laws'"),
        (tmp_path / "other.jsonl", "no such file"),
    ):
        command = [sys.executable, "-m", "benchmarks.prose_text", str(given), str(target), "--source", "laws"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 2
        assert said in ran.stderr
    assert not target.exists()
