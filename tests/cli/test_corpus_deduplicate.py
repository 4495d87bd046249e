"""``zhgpt corpus deduplicate`` as a user runs it: output, counts, exit codes, interruptions."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard

TEXTS = [f"第{number}首：" + chr(0x4E00 + number) * 3 + "春眠不觉晓处处闻啼鸟" * (number + 1) for number in range(6)]
COPY = TEXTS[2].replace("：", "　") + "。"
ALIKE = TEXTS[4][:-1] + "雀。后来又加"


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "zhgpt.cli.main", "corpus", "deduplicate", *map(str, words)]


def run(*words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def records(folder: Path) -> list[dict[str, object]]:
    lines: list[str] = []
    for path in sorted(folder.glob("data/part-*.jsonl.zst")):
        with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
            lines += io.TextIOWrapper(unpacked, "utf-8").read().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deduplicate")
    first = [json.dumps({"text": text, "title": f"题{text[1]}"}, ensure_ascii=False) for text in TEXTS]
    (folder / "a.jsonl").write_text("\n".join([*first, "not json", ""]), "utf-8")
    second = [json.dumps({"text": text}, ensure_ascii=False) for text in (COPY, "只在这里的一首诗，别处没有。", ALIKE)]
    (folder / "b.jsonl").write_text("\n".join(second), "utf-8")
    return folder


def test_what_stays_what_went_for_what_and_the_counts_are_written(folder: Path, tmp_path: Path) -> None:
    inputs = ("--input", folder / "a.jsonl", "--input", folder / "b.jsonl")
    told = run(*inputs, "--output", tmp_path / "out", "--threshold", "0.5", "--workers", 2).stdout
    assert "dropped 1 not JSON, first: " in told
    assert "out: 7 of 9 documents stay" in told
    assert "1 exact and 1 near-duplicates dropped, in 2 clusters" in told
    kept = records(tmp_path / "out")
    assert [record["text"] for record in kept] == [
        *(text for text in TEXTS if text != TEXTS[4]),
        "只在这里的一首诗，别处没有。",
        ALIKE,
    ]
    assert kept[0] == {"text": TEXTS[0], "source": "a.jsonl", "title": "题0"}
    clusters = [json.loads(line) for line in (tmp_path / "out" / "clusters.jsonl").read_text("utf-8").splitlines()]
    a, b = str(folder / "a.jsonl"), str(folder / "b.jsonl")
    assert clusters[0] == {
        "cluster": 0,
        "kept": {"file": a, "place": 3},
        "dropped": [{"file": b, "place": 1, "similarity": 1.0}],
    }
    assert clusters[1]["kept"] == {"file": b, "place": 3}
    assert clusters[1]["dropped"][0]["place"] == 5
    found = json.loads((tmp_path / "out" / "deduplication.json").read_text("utf-8"))
    assert found["counts"]["kept"] == 7
    assert found["unreadable"] == {"not_json": 1}
    assert [file["dropped"] for file in found["files"]] == [1, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clusters.jsonl",
        "data",
        "deduplication.json",
    ]


def test_exact_only_leaves_near_duplicates_and_keep_first_the_first(folder: Path, tmp_path: Path) -> None:
    inputs = ("--input", folder / "b.jsonl", "--input", folder / "a.jsonl")
    run(*inputs, "--output", tmp_path / "out", "--exact-only", "--keep", "first")
    texts = [record["text"] for record in records(tmp_path / "out")]
    assert len(texts) == 8
    assert COPY in texts
    assert TEXTS[2] not in texts


@pytest.mark.parametrize(
    ("changed", "code", "sentence"),
    [
        ({"--input": "nowhere.jsonl"}, 66, "nowhere.jsonl: no such file"),
        ({"--input": "hf://owner/name"}, 66, "no such file. Save a stream as a file first (zhgpt corpus read)"),
        ({"--threshold": "1.5"}, 2, "threshold 1.5 is not a similarity"),
        ({"--workers": "0"}, 2, "workers 0: expected at least 1"),
        ({"--on-bad": "refuse"}, 65, "a.jsonl, line 7"),
        ({"--format": "docx"}, 2, "format 'docx' is not known"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_its_code_and_leaves_nothing(
    folder: Path, tmp_path: Path, changed: dict[str, str], code: int, sentence: str
) -> None:
    words = {"--input": str(folder / "a.jsonl"), "--output": str(tmp_path / "out"), **changed}
    refused = run(*(word for pair in words.items() for word in pair), code=code)
    assert refused.stderr.startswith("error: ")
    assert sentence in refused.stderr
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_there_is_refused_unless_forced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    words = ("--input", folder / "a.jsonl", "--output", tmp_path / "out")
    assert "exists already" in run(*words, code=74).stderr
    assert (tmp_path / "out" / "mine.txt").exists()
    run(*words, "--force")
    assert not (tmp_path / "out" / "mine.txt").exists()


def test_a_killed_run_leaves_no_output_and_the_next_goes_on_with_its_signatures(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"{number}。{number * number}" * 9}) for number in range(20000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(lines), "utf-8")
    places = ("--output", tmp_path / "out", "--work-folder", tmp_path / "work")
    words = ("--input", tmp_path / "?.jsonl", *places, "--exact-only")
    with subprocess.Popen(command(*words, "--workers", 1), stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "work" / "shard-00000" / "shard.json").exists():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert not (tmp_path / "out").exists()
    first = (tmp_path / "work" / "shard-00000" / "shard.json").stat().st_ino
    assert "20,000 exact" in run(*words).stdout
    assert (tmp_path / "work" / "shard-00000" / "shard.json").stat().st_ino == first
    assert len(records(tmp_path / "out")) == 20000
