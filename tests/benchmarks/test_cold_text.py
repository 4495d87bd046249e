"""Text that comes again comes with other clauses."""

import json
import re
from itertools import pairwise
from pathlib import Path

from benchmarks.cold_text import Halves, cut, write_cold_text

RUN = re.compile(r"[\u4e00-\u9fff]{4,}")


def clauses(number: int) -> list[str]:
    """Clauses of eight Han characters, all different."""
    return [
        "".join(chr(0x4E00 + (number * 97 + step * 31 + place) % 20000) for place in range(8)) for step in range(50)
    ]


def write(path: Path, documents: int) -> int:
    """Writes documents; returns their bytes."""
    texts = ["，".join(clauses(number)) + "。" for number in range(documents)]
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    return sum(len(text.encode()) for text in texts)


def read(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def test_less_text_than_there_is_is_drawn_evenly_and_left_as_it_is(tmp_path: Path) -> None:
    size = write(tmp_path / "corpus.jsonl", 100)
    text = write_cold_text([tmp_path / "corpus.jsonl"], tmp_path / "cold.jsonl", size / 4e6)
    whole, drawn = read(tmp_path / "corpus.jsonl"), read(tmp_path / "cold.jsonl")
    places = [whole.index(one) for one in drawn]
    assert (text.documents, text.recombined_bytes) == (25, 0)
    assert max(after - before for before, after in pairwise(places)) <= 5


def test_a_second_pass_repeats_hardly_a_clause(tmp_path: Path) -> None:
    size = write(tmp_path / "corpus.jsonl", 400)
    text = write_cold_text([tmp_path / "corpus.jsonl"], tmp_path / "cold.jsonl", 2 * size / 1e6)
    documents = read(tmp_path / "cold.jsonl")
    first, second = (set(RUN.findall("".join(half))) for half in (documents[:400], documents[400:]))
    assert (text.text_bytes, text.recombined_bytes, text.documents) == (2 * size, size, 800)
    # The first 4,999 clauses of a pass have nothing to be exchanged with.
    assert len(first & second) <= 4999


def test_exchanged_halves_keep_marks_short_runs_and_other_scripts() -> None:
    halves = Halves(distance=1)
    assert halves.exchange("甲乙丙丁，GPT2 好；戊己庚辛！壬癸子丑") == "甲乙丙丁，GPT2 好；戊己丙丁！壬癸庚辛"


def test_short_documents_are_runs_of_whole_lines_of_long_ones(tmp_path: Path) -> None:
    text = "\n".join(["天下大势" * number for number in range(1, 30)])
    pieces = list(cut(text, 100))
    assert "\n".join(pieces) == text
    assert all(len(piece.encode()) >= 100 for piece in pieces[:-1])
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"text": text}) + "\n", "utf-8")
    written = write_cold_text([tmp_path / "corpus.jsonl"], tmp_path / "cold.jsonl", len(text.encode()) / 1e6, 100)
    assert read(tmp_path / "cold.jsonl")[: len(pieces)] == pieces
    assert written.documents == len(read(tmp_path / "cold.jsonl"))
