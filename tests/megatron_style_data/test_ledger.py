"""The ledger and its page."""

import json
import re
from pathlib import Path

from megatron_style_data.cleaning.recipe import load_recipe
from megatron_style_data.cleaning.run import clean
from megatron_style_data.ledger_plots import drop_plot, length_plot, share_plot

TEXT = "村民们都很高兴，在田里唱歌，一直唱到太阳下山才回家去。"


def cleaned(tmp_path: Path) -> Path:
    rows = [
        {"text": TEXT * 3, "from": "甲<b>"},
        {"text": TEXT, "from": "乙"},
        {"text": "１２３" + TEXT * 2, "from": "乙"},
    ]
    corpus = tmp_path / "a.jsonl"
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + "{坏\n", "utf-8")
    value = {
        "name": "试验",
        "inputs": [{"path": str(corpus), "source_field": "from", "license": "CC0-1.0"}],
        "steps": {"width": None, "length": {"minimum_characters": 40}, "repetition": {"maximum_top_4gram_share": 0.9}},
        "deduplicate": {"exact": True, "near": False},
    }
    clean(load_recipe(value, "r.yaml"), tmp_path / "out", near=2)
    return tmp_path / "out"


def test_the_ledger_says_per_source_what_came_and_what_is_left(tmp_path: Path) -> None:
    record = json.loads((cleaned(tmp_path) / "corpus.json").read_bytes())
    assert list(record["sources"]) == ["乙", "甲<b>"]
    second = record["sources"]["乙"]
    assert second["read"]["utf8_bytes"] == len(TEXT.encode()) * 3 + len("１２３".encode())
    assert second["kept"]["characters"] == 3 + 2 * len(TEXT)
    assert second["dropped"] == {"length": {"characters < 40": 1}}
    assert record["steps"][0]["documents_changed"] == 1
    assert record["steps"][0]["changes"] == 3
    assert record["total"]["licenses"] == {"CC0-1.0": 3}
    assert record["unreadable"]["counts"] == {"not_json": 1}
    assert record["recipe"]["steps"]["length"]["minimum_characters"] == 40


def test_the_page_stands_alone_and_shows_chinese_and_no_markup_of_the_data(tmp_path: Path) -> None:
    page = (cleaned(tmp_path) / "corpus.html").read_text("utf-8")
    assert '<meta charset="utf-8">' in page
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(", page)
    assert "试验" in page
    assert "甲&lt;b&gt;" in page
    assert "甲<b>" not in page
    assert page.count("<svg") >= 3
    assert "characters &lt; 40" in page


def test_the_tables_near_the_thresholds_have_both_sides(tmp_path: Path) -> None:
    page = (cleaned(tmp_path) / "near_threshold" / "length.md").read_text("utf-8")
    assert page.startswith("# length: documents nearest its thresholds\n\nRecipe 试验: `minimum_characters: 40`, ")
    _, dropped, kept, *rest = page.split("\n## ")
    assert dropped.startswith("dropped as characters < 40\n")
    assert kept.startswith("kept, nearest to characters < 40\n")
    assert f"| {len(TEXT)} | 村民们都很高兴" in dropped
    assert f"| {3 * len(TEXT)} | 村民们都很高兴" in kept
    assert [table.partition("\n")[0] for table in rest] == [
        "dropped as characters > 5,000,000",
        "kept, nearest to characters > 5,000,000",
    ]


def test_plots_of_nothing_are_drawn_too() -> None:
    assert length_plot([0] * 48, [0] * 48) == ""
    assert drop_plot([], 0).startswith("<svg")
    assert share_plot([0] * 50, 0.3, None).count("<rect") == 0


def test_the_length_plot_has_a_bar_for_each_length_there_is() -> None:
    read, kept = [0] * 48, [0] * 48
    read[10], read[12], kept[12] = 4, 2, 1
    assert length_plot(read, kept).count("<rect") == 2 * 3 + 2
