"""The report: one page that opens anywhere, Markdown, CSV; whole although runs failed."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_ablation import MadeUp, planned

from zhgpt.ablate.report import write_ablation_report

Make = Callable[..., MadeUp]


@pytest.fixture
def reported(made_up: Make) -> MadeUp:
    """Three variants: the baseline, one that is better, one that failed in every way."""
    made = made_up([planned("base"), planned("moe <8>"), planned("broken")])
    for seed in (1, 2, 3):
        made.run(f"base-seed{seed}", {5: 3.0, 10: 2.0 + seed / 100}, mfu=0.4, peak_memory_bytes=2**30)
        made.run(f"moe <8>-seed{seed}", {5: 2.9, 10: 1.9 + seed / 100}, mfu=0.3, peak_memory_bytes=2**31)
    made.run("broken-seed1", {5: 3.0}, code=3, reason="step 6: loss nan")
    made.run("broken-seed2", {5: 3.0}, code=137, reason="local rank 0 was ended by SIGKILL")
    write_ablation_report(made.folder, made.plan)
    return made


def text(made: MadeUp, name: str) -> str:
    return (made.folder.path / name).read_text(encoding="utf-8")


def rows(made: MadeUp, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text(made, name).splitlines()))


def test_the_page_stands_alone_and_fetches_nothing(reported: MadeUp) -> None:
    page = text(reported, "report.html")
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "default-src 'none'" in page
    assert page.count("data:image/svg+xml;base64,") == 6


def test_names_are_escaped(reported: MadeUp) -> None:
    page = text(reported, "report.html")
    assert "moe &lt;8&gt;" in page
    assert "moe <8>" not in page


def test_page_and_markdown_say_the_same_sentences(reported: MadeUp) -> None:
    sentence = "is 0.100 ± 0.000 bits per byte better at equal tokens"
    sentence = "is 0.1000 ± 0.0000 bits per byte better at equal tokens, 0.1000 ± 0.0000 better at equal wall-clock"
    assert sentence in text(reported, "report.md")
    assert sentence in text(reported, "report.html")
    assert "Does it pay?" in text(reported, "report.md")


def test_runs_that_failed_are_listed_with_their_reason(reported: MadeUp) -> None:
    page = text(reported, "report.md")
    assert "9 runs: 6 done, 1 diverged, 1 failed, 1 not started." in page
    assert "| broken-seed1 | diverged | 3 |" in page
    assert "step 6: loss nan" in page
    assert "| broken-seed2 | failed | 137 |" in page
    assert "broken cannot be compared with base: seed 1 diverged, seed 2 failed, seed 3 not started." in page


def test_what_was_not_measured_has_no_column_and_is_named(reported: MadeUp) -> None:
    page = text(reported, "report.md")
    assert "| MFU |" in page
    assert "communication |" not in page
    assert 'communication share ("comms_logger"' in page
    assert "how much the choice of documents matters is not in it" in page


def test_results_hold_every_run_unrounded(reported: MadeUp) -> None:
    results = rows(reported, "results.csv")
    assert [(row["variant"], row["seed"], row["state"]) for row in results[:3]] == [
        ("base", "1", "done"),
        ("moe <8>", "1", "done"),
        ("broken", "1", "diverged"),
    ]
    assert results[0]["valid_bits_per_byte"] == "2.01"
    assert results[0]["peak_memory_bytes"] == str(float(2**30))
    assert results[-1]["valid_bits_per_byte"] == ""


def test_datasets_have_columns_and_a_table_of_their_own(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")], seeds=(1, 2))
    for seed in (1, 2):
        bits = {"valid_bits_per_byte/law": 1.0 + seed / 10, "valid_bits_per_byte/talk": 3.0}
        made.run(f"base-seed{seed}", {10: 2.0}, **bits)
    made.run("moe-seed1", {10: 1.9}, **{"valid_bits_per_byte/law": 0.9, "valid_bits_per_byte/talk": 3.25})
    write_ablation_report(made.folder, made.plan)
    page = text(made, "report.md")
    assert "| variant | law | Δ law | talk | Δ talk |\n" in page
    assert "| base | 1.1500 ± 0.6353 | baseline | 3.0000 ± 0.0000 | baseline |\n" in page
    assert "| moe | 0.9000 | -0.2000 | 3.2500 | +0.2500 |\n" in page
    assert "By dataset: bits per byte at the end of the runs" in page
    assert '<td class="digits">-0.2000</td>' in text(made, "report.html")
    found = [(row["valid_bits_per_byte/law"], row["valid_bits_per_byte/talk"]) for row in rows(made, "results.csv")]
    assert found == [("1.1", "3.0"), ("0.9", "3.25"), ("1.2", "3.0"), ("", "")]


def test_a_dataset_that_a_run_has_not_is_left_empty(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")], seeds=(1,))
    made.run("base-seed1", {10: 2.0}, **{"valid_bits_per_byte/law": 1.0, "valid_bits_per_byte/talk": float("nan")})
    made.run("moe-seed1", {10: 1.9}, **{"valid_bits_per_byte/talk": 3.0, "valid_bits_per_byte/prose": 2.0})
    write_ablation_report(made.folder, made.plan)
    page = text(made, "report.md")
    assert "| variant | law | Δ law | talk | Δ talk | prose | Δ prose |\n" in page
    assert "| base | 1.0000 | baseline | – | baseline | – | baseline |\n" in page
    assert "| moe | – | – | 3.0000 | – | 2.0000 | – |\n" in page
    assert [row["valid_bits_per_byte/talk"] for row in rows(made, "results.csv")] == ["", "3.0"]


def test_one_dataset_needs_no_table(made_up: Make) -> None:
    made = made_up([planned("base")], seeds=(1,))
    made.run("base-seed1", {10: 2.0}, **{"valid_bits_per_byte/law": 2.0})
    write_ablation_report(made.folder, made.plan)
    assert not any("By dataset" in text(made, name) for name in ("report.md", "report.html"))
    assert rows(made, "results.csv")[0]["valid_bits_per_byte/law"] == "2.0"


def test_comparisons_and_curves_are_there_as_numbers(reported: MadeUp) -> None:
    found = rows(reported, "comparisons.csv")
    assert [(row["variant"], row["held_equal"], row["outcome"]) for row in found] == [
        ("moe <8>", "tokens", "better"),
        ("moe <8>", "seconds", "better"),
        ("moe <8>", "flops", "better"),
    ]
    assert float(found[0]["mean_difference"]) == pytest.approx(-0.1)
    assert len(rows(reported, "curves.csv")) == 14


def test_pictures_lie_beside_the_markdown(reported: MadeUp) -> None:
    for name in re.findall(r"\]\((pictures/[a-z]+\.png)\)", text(reported, "report.md")):
        assert (reported.folder.path / name).read_bytes().startswith(b"\x89PNG")


def test_the_same_runs_give_the_same_page(reported: MadeUp) -> None:
    before = text(reported, "report.html")
    write_ablation_report(reported.folder, reported.plan)
    assert text(reported, "report.html") == before


def test_a_report_before_any_run_says_so(made_up: Make) -> None:
    made = made_up([planned("base"), planned("moe")], seeds=(1,))
    page: Path = write_ablation_report(made.folder, made.plan)
    assert "2 runs: 2 not started" in page.read_text(encoding="utf-8")
