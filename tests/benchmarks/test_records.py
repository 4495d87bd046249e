"""Rows that are not measured again stay; the page shows every figure."""

import os
from pathlib import Path

import pytest

from benchmarks.__main__ import chosen
from benchmarks.measure import Comparison
from benchmarks.records import Record, load, number, others_seconds, page, record, save, with_record
from benchmarks.rows import NEED_CORPUS, ROWS

BUILD = Comparison(
    "build 50 MB", "HF", "MB of text", 30.0, 4.0, 50.0, 7.0, 3, at_least="5", notes="peak PSS of all processes 280 MB"
)
BOUND = Comparison("best-fit packing", "–", "documents", 9e6, None, 9e6, None, 3, notes="0.111 µs a document")
RECORDS = {
    "build_50": Record((BUILD,), "abc1234", "a machine", "2026-01-02"),
    "packing": Record((BOUND,), "abc1234", "a machine", "2026-01-02"),
}


def test_records_come_back_as_they_were_saved(tmp_path: Path) -> None:
    save(tmp_path / "results.json", RECORDS)
    assert load(tmp_path / "results.json") == RECORDS


def test_the_page_shows_ratio_bound_notes_and_commit() -> None:
    lines = page(RECORDS).splitlines()
    assert (
        "| build 50 MB | HF | MB of text | 30.0 | 4.00 | **7.50** | 5 | peak PSS of all processes 280 MB | 50.0 | 7.00 | 3 "
        "| 2026-01-02, `abc1234` |"
    ) in lines
    assert "Machine: a machine." in lines


def test_a_row_without_a_baseline_has_no_ratio() -> None:
    (line,) = [line for line in page(RECORDS).splitlines() if line.startswith("| best-fit")]
    assert line.split(" | ")[4:6] == ["–", "–"]


def test_rows_of_two_machines_say_which() -> None:
    other = {**RECORDS, "packing": Record((BOUND,), "abc1234", "the other", "2026-01-02")}
    text = page(other)
    assert "Machine 2: the other." in text
    assert "`abc1234`, machine 2 |" in text


def test_what_another_machine_measured_stays_beside() -> None:
    order = ["packing", "build_50"]
    here, again = (Record((BOUND,), commit, "the other", "2026-01-02") for commit in ("abc1234", "bcd2345"))
    both = with_record(RECORDS, "packing", here, order)
    assert list(both) == ["packing", "packing on the other", "build_50"]
    assert both["packing"] == RECORDS["packing"]
    assert with_record(both, "packing", again, order)["packing on the other"] == again
    replaced = with_record(both, "packing", Record((BUILD,), "bcd2345", "a machine", "2026-01-03"), order)
    assert (replaced["packing"].rows, replaced["packing on the other"]) == ((BUILD,), here)


def test_a_record_says_how_much_other_work_there_was() -> None:
    one = record(lambda: [BOUND])
    assert one.rows == (BOUND,)
    assert one.cores_of_others is None or one.cores_of_others >= 0
    (line,) = [
        line
        for line in page({"packing": Record((BOUND,), "abc1234", "a machine", "2026-01-02", 1.26)}).splitlines()
        if line.startswith("| best-fit")
    ]
    assert line.endswith("| 2026-01-02, `abc1234`, 1.3 cores |")


def test_work_of_others_is_what_the_system_counts_without_this_process(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    ticks = os.sysconf("SC_CLK_TCK")
    stat.write_text(f"cpu  {9000 * ticks} {500 * ticks} {400 * ticks} 7 7 {60 * ticks} {40 * ticks} 0 0 0\ncpu0 1\n")
    found = others_seconds(stat)
    assert found is not None
    assert 9000 < found < 10_000
    assert others_seconds(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0394, "0.0394"), (94.62, "94.6"), (193027.5, "193,028"), (None, "–"), (7, "7.00"), (0.00123, "0.00123")],
)
def test_numbers_keep_the_digits_that_say_something(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_without_a_corpus_the_rows_that_need_none_are_measured() -> None:
    assert chosen(None, has_corpus=False) == [name for name in ROWS if name not in NEED_CORPUS]
    assert chosen(None, has_corpus=True) == list(ROWS)
    assert chosen(["loader", "build_50"], has_corpus=True) == ["build_50", "loader"]
    with pytest.raises(SystemExit, match="build_500: name a corpus with --corpus"):
        chosen(["build_500"], has_corpus=False)
