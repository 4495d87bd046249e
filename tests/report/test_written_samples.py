"""The page of samples: what it says in words, and that every text stands in it as it came."""

import json
from dataclasses import replace
from pathlib import Path

from zhgpt.evaluate.writing import MEASURES, Writing
from zhgpt.report.written_samples import Sample, WrittenSamples, write_samples


def writing(value: float, copied: float | None = None) -> Writing:
    return Writing(2, 100.0, dict.fromkeys(MEASURES, value), copied)


def found(written: float = 0.5, held_out: float = 0.5, copied: float | None = 0.01) -> WrittenSamples:
    samples = (Sample("话说", 1, "*天下*\n<大势>", "天下天下"), Sample("玄德曰：", 2, "“是。”", "是是"))
    settings = {"temperature": 1.0, "top-p": 0.95}
    return WrittenSamples(samples, settings, writing(written, copied), writing(0.9, 0.2), writing(held_out))


def test_the_sentences_say_what_is_alike_and_what_is_not() -> None:
    alike, recites = found().sentences()
    assert alike.startswith("Within 20 % of held-out text: distinct characters, distinct 2-grams")
    assert recites == "Does not recite: 1.0 % of its 30-character windows stand in the training text."
    nothing, apart, recites = found(0.9, 0.5, 0.4).sentences()
    assert nothing == "Within 20 % of held-out text: nothing."
    assert "punctuation (90.0 % against 50.0 %)" in apart
    assert recites.startswith("Recites: 40.0 %")


def test_what_was_not_searched_whole_says_how_much_was() -> None:
    part = replace(found(), searched=(25, 100)).sentences()[-1]
    assert part.endswith(
        "1.0 % of its 30-character windows stand in the 25.0 % of the training text that was searched."
    )
    assert replace(found(), searched=(100, 100)).sentences()[-1].endswith("stand in the training text.")


def test_texts_that_are_too_short_are_said_to_be() -> None:
    short = WrittenSamples((), {}, None, None, writing(0.5))
    assert short.sentences() == ["All texts are too short to count; look at them, and give --max-new-tokens more."]
    assert short.table() == []


def test_the_table_puts_greedy_beside_the_drawn_texts() -> None:
    rows = found(0.6, 0.5).table()
    assert rows[2] == ["distinct characters", "60.0 %", "50.0 %", "1.20", "90.0 %"]
    assert rows[-1] == ["copied windows", "1.0 %", "–", "–", "20.0 %"]


def test_the_table_begins_with_how_much_text_each_side_counts() -> None:
    few = replace(found(), written=replace(writing(0.5), texts=64, characters=282.4), held_out=writing(0.5))
    assert few.table()[:2] == [
        ["texts counted", "64", "2", "–", "2"],
        ["characters of a text", "282", "100", "–", "100"],
    ]
    assert [row[-1] for row in replace(few, greedy=None).table()[:2]] == ["0", "–"]


def test_the_folder_holds_every_text_for_people_and_for_programs(tmp_path: Path) -> None:
    write_samples(tmp_path / "out", found())
    page = (tmp_path / "out" / "samples.md").read_text("utf-8")
    assert "\n<blockquote><b>话说</b>*天下*<br>&lt;大势&gt;</blockquote>\n" in page
    assert "2 prompts; temperature 1.0, top-p 0.95." in page
    assert "\n| texts counted | 2 | 2 | – | 2 |\n" in page
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text("utf-8").splitlines()]
    assert [(line["prompt"], line["seed"], line["text"], line["greedy"]) for line in lines] == [
        ("话说", 1, "*天下*\n<大势>", "天下天下"),
        ("玄德曰：", 2, "“是。”", "是是"),
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["held_out"]["measures"]["punctuation_share"] == 0.5
