"""The data guide's examples print what the guide shows; its filters do what it says; both languages show the same."""

import re
from pathlib import Path

import pytest
from guide_examples import Example, examples_of, run_example

from megatron_style_data.cleaning.steps import STEPS

DOCS = Path(__file__).resolve().parents[1] / "docs"
ENGLISH, CHINESE = DOCS / "data_guide.md", DOCS / "data_guide.zh-CN.md"
EXAMPLES = examples_of(ENGLISH)
# | `step` `setting: value` … | `text` × 50 | `what becomes of it`, or the measure that drops it | why |
FILTER = re.compile(
    r"^\| `(\w+)`([^|]*) \| `([^`]+)`(?: × (\d+))? \| (?:`([^`]+)`|.*?`(\w+)` = ([\d.]+).*?) \| [^|]+ \|$",
    re.MULTILINE,
)


def filters(page: Path) -> list[tuple[str, ...]]:
    return FILTER.findall(page.read_text("utf-8"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```.*?^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "example",
    [
        # Importing datasets takes long.
        pytest.param(each, id=" ".join(each.files), marks=pytest.mark.slow if "hf://" in each.command else ())
        for each in EXAMPLES
    ],
)
def test_an_example_prints_what_the_guide_shows(example: Example, tmp_path: Path) -> None:
    assert run_example(example, tmp_path) == example.output


def test_every_corpus_has_an_example() -> None:
    taken = "".join(example.output for example in EXAMPLES)
    corpora = ["mnbvc", "mnbvc_qa", "mnbvc_forum", "mnbvc_code", "mnbvc_parallel", "cci", "cci3_hq", "cluecorpus", "c4"]
    corpora += ["skypile", "wudao", "nlp_chinese_wiki", "nlp_chinese_news", "nlp_chinese_webtext", "nlp_chinese_baike"]
    corpora += ["smoltalk_chinese", "question_answer", "jsonl", "text", "parquet"]
    assert [name for name in corpora if not re.search(rf"^\S+: {name}\b", taken, re.MULTILINE)] == []


@pytest.mark.parametrize("row", filters(ENGLISH), ids=lambda row: row[0])
def test_a_filter_does_what_the_guide_says(row: tuple[str, ...]) -> None:
    step, more, text, times, after, measure, value = row
    kind = STEPS[step]
    settings = dict(re.findall(r"`(\w+): (\w+)`", more))
    outcome = kind.prepare(kind.settings.model_validate(settings))(text.replace("↵", "\n") * int(times or 1), {})
    if after:
        assert (outcome.text.replace("\n", "↵"), outcome.failed) == (after, None)
        return
    assert outcome.failed is not None
    assert (outcome.failed.name, f"{outcome.failed.value:.2f}") == (measure, f"{float(value):.2f}")


def test_both_languages_show_the_same_examples_and_filters() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)
    assert filters(ENGLISH) == filters(CHINESE)
    assert len(filters(ENGLISH)) >= 12
