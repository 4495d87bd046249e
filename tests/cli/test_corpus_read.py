"""``zhgpt corpus read`` as a user and a pipe run it: documents on stdout, formats and counts on stderr, exit codes."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "zhgpt.cli.main", "corpus", "read"]
RECORDS = [
    {"id": number, "text": f"第{number}篇。老树在村口站了三百年。", "score": number / 10} for number in range(40)
]


def corpus_read(*words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def printed(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.split("\n") if line]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """CCI 3-HQ's shape, and what may be wrong with lines."""
    lines = [json.dumps(record, ensure_ascii=False).encode() for record in RECORDS]
    bad = [
        b"\xef\xbb\xbf" + lines[0],
        *lines[1:],
        b"not json",
        '{"text": "村民们都很高兴"}'.encode("gb18030"),
        b'{"id": 1, "text": null, "score": 1}',
        b'{"id": "\\ud800", "text": "a\\u0000b\\ud800c\x00", "score": NaN}',
    ]
    path = tmp_path / "part_000000.jsonl"
    path.write_bytes(b"\r\n".join(bad) + b"\r\n")
    return path


def test_documents_go_to_stdout_and_what_was_found_to_stderr(corpus: Path, tmp_path: Path) -> None:
    aside = tmp_path / "bad.jsonl"
    done = corpus_read(corpus, "--quarantine", aside)
    documents = printed(done)
    assert documents[0] == {"text": RECORDS[0]["text"], "source": corpus.name, "id": 0, "score": 0.0}
    assert documents[40] == {"text": "abc", "source": corpus.name, "id": ""}
    assert len(documents) == 41
    assert (
        f"{corpus.name}: cci3_hq.jsonl (JSON lines; 16 of the first 16 records look like BAAI CCI 3-HQ" in done.stderr
    )
    assert "41 documents, " in done.stderr
    assert "normalised: control_characters 2, surrogates 1" in done.stderr
    for line, what in [(41, "not JSON"), (42, "invalid UTF-8"), (43, "without a text")]:
        assert f"dropped 1 {what}, first: {corpus}, line {line}: " in done.stderr
    assert "but all of it reads as GB18030" in done.stderr
    assert f"3 bad documents in {aside}" in done.stderr
    assert [json.loads(entry)["place"] for entry in aside.read_text().splitlines()] == ["line 41", "line 42", "line 43"]


def test_limit_and_score_choose_documents(corpus: Path) -> None:
    assert len(printed(corpus_read(corpus, "--limit", 3))) == 3
    done = corpus_read(corpus, "--min-score", 3.5)
    assert [document["id"] for document in printed(done)] == [35, 36, 37, 38, 39]
    assert "dropped 35 scored too low, first: " in done.stderr


def test_max_bad_and_refuse_end_with_65_and_the_places(corpus: Path) -> None:
    many = corpus_read(corpus, "--max-bad", 2, code=65)
    assert "error: 3 bad documents, more than max_bad 2: 1 invalid UTF-8, first: " in many.stderr
    assert "line 41: not JSON" in corpus_read(corpus, "--on-bad", "refuse", code=65).stderr


def test_a_pipe_that_closes_early_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "村" * 1000}) + "\n" for _ in range(3000)))
    command = [*COMMAND, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        assert json.loads(reading.stdout.readline())["text"] == "村" * 1000
        reading.stdout.close()
        assert reading.wait(timeout=120) == 0
        assert reading.stderr.read().decode().splitlines() == ["a.jsonl: jsonl (JSON lines; no known corpus)"]


def test_gb18030_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("老树在村口站了三百年。".encode("gb18030"))
    done = corpus_read(path, "--encoding", "auto")
    assert printed(done)[0]["text"] == "老树在村口站了三百年。"
    assert f"{path}: read as GB18030, as its beginning is no UTF-8" in done.stderr


def test_a_truncated_archive_ends_with_65(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(corpus.read_bytes())[:-20])
    assert "error: " + str(path) + ": the gzip data is cut off" in corpus_read(path, code=65).stderr


def test_folders_are_told_by_format_and_number(corpus: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"第{number}篇")
    (tmp_path / "README.md").write_text("x")
    done = corpus_read(tmp_path)
    assert len(printed(done)) == 44
    assert "3 files, first 0.txt: text (by its name)" in done.stderr
    assert "left out, as their names say no format: README.md" in done.stderr


def test_what_cannot_be_asked_ends_with_2(corpus: Path) -> None:
    assert "format 'cci4' is not known; choose auto, jsonl" in corpus_read(corpus, "--format", "cci4", code=2).stderr
    assert "error: max_bad -1 is negative" in corpus_read(corpus, "--max-bad", -1, code=2).stderr
    assert "no such file or folder" in corpus_read("gone.jsonl", code=66).stderr
