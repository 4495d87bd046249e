"""report.html: one file that shows a run, whatever is missing from its folder."""

import base64
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from zhgpt.errors import MissingInputError, StorageError
from zhgpt.report.drawing import Curves
from zhgpt.report.page import build_page, curves_of
from zhgpt.report.plots import PLOTS, render_svg
from zhgpt.report.recorded_run import read_run
from zhgpt.report.write import render, write_report

MakeRun = Callable[..., Path]


class Outline(HTMLParser):
    """The tags, the addresses they refer to, and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], "a tag is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "poster")]
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


def _html(folder: Path) -> str:
    return write_report(folder).read_text("utf-8")


def test_the_page_has_everything_a_reader_asks_for(make_run: MakeRun) -> None:
    html = _html(make_run())
    text = Outline(html).text
    assert "<title>三国试跑: finished</title>" in html
    assert "It learns: held-out loss 4.39 is 2.53 nats below the unigram line (6.92)" in text
    for expected in (
        "the run has 5.1 tokens a parameter",
        "8 min 50 s",
        "step 1,000",
        "and 1 older",
        "8.40 epochs",
        "MFU 41.0 %",
        "unigram line 2.4300",
        "3.24M",
        "+0.8874",
        "村口敲锣打鼓",
        "repeated 4-grams 2.0 %",
        "6 of 10 evaluations",
        "learning_rate: 0.002",
        '"stage": 1',
        "attention_backend.passed_over",
        "flash2: needs a GPU, torch_varlen: needs a GPU",
        "checkpoint_saved",
    ):
        assert expected in text, expected


def test_the_first_sentence_is_the_verdict(make_run: MakeRun) -> None:
    text = " ".join(Outline(_html(make_run())).text.split())
    assert text.index("It learns") < text.index("Warnings given at the start") < text.index("tokens/s")


def test_nothing_is_fetched_and_nothing_runs(make_run: MakeRun) -> None:
    html = _html(make_run())
    outline = Outline(html)
    assert "script" not in outline.tags
    assert "link" not in outline.tags
    assert len(outline.addresses) == 5
    assert all(address.startswith("data:image/svg+xml;base64,") for address in outline.addresses)
    assert not re.search(r"url\(|@import", html)
    assert "default-src 'none'; img-src data:" in html
    for address in outline.addresses:
        picture = base64.b64decode(address.partition(",")[2]).decode()
        assert not re.search(r'href="(?!#)', picture)


def test_what_a_run_wrote_is_never_markup(make_run: MakeRun) -> None:
    evil = "<script>alert('坏')</script>"
    folder = make_run(
        environment={"warnings": [evil], "device": evil, evil: evil, "world_size": 1}, exit_code=1, reason=evil
    )
    (folder / "run_config.yaml").write_text(json.dumps({"run": {"name": evil}}, ensure_ascii=False), "utf-8")
    (folder / "deepspeed.json").write_text(json.dumps({"x": evil}), "utf-8")
    (folder / "events.jsonl").write_text(json.dumps({"at": evil, "event": evil, evil: evil}) + "\n" + evil, "utf-8")
    sample = {"prompt": evil, "text": evil, "distinct_1": evil}
    (folder / "samples/step-00001000.jsonl").write_text(json.dumps(sample), "utf-8")
    outline = Outline(_html(folder))
    assert "script" not in outline.tags
    assert outline.text.count("<script>") > 10


def test_half_a_surrogate_pair_is_replaced(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "samples/step-00001000.jsonl").write_text('{"prompt": "天", "text": "地\\ud83d"}\n', "utf-8")
    assert "地?" in _html(folder)


@pytest.mark.parametrize(
    "kept",
    [["run_config.yaml"], ["metrics.jsonl"], ["metrics.jsonl", "environment.json"], ["metrics.jsonl", "samples"]],
    ids=" ".join,
)
def test_a_folder_in_pieces_still_gives_a_page(make_run: MakeRun, kept: list[str]) -> None:
    folder = make_run()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.relative_to(folder).parts[0] not in kept:
            path.rmdir() if path.is_dir() else path.unlink()
    text = Outline(_html(folder)).text
    assert "Reading this folder" in text
    assert "events.jsonl is missing." in text


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"step": 1}],
        [{"step": 1, "loss": None, "mfu": None, "valid_loss": None}],
        [{"step": 1, "loss": 9.0, "valid_loss": 9.0, "valid_bits_per_byte": None}],
        [{"step": 1, "loss": None, "eta_seconds": None, "non_finite": {"loss": "nan", "eta_seconds": "inf"}}],
        [{"step": 1, "loss": "nine", "tokens_per_second": [], "valid_loss": {}, "elapsed_seconds": "long"}],
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("environment", [{}, {"floor": None, "dataset": 3, "warnings": "none", "parameters": {}}])
def test_poor_records_still_give_a_page(
    make_run: MakeRun, records: list[dict[str, Any]], environment: dict[str, Any]
) -> None:
    Outline(_html(make_run(records=records, environment=environment, exit_code=None)))


def test_a_long_run_shows_evaluations_spread_evenly(make_run: MakeRun) -> None:
    records = [{"step": 10 * n, "loss": 5.0, "valid_loss": 5.0} for n in range(1, 1001)]
    page = build_page(read_run(make_run(records=records)))
    steps = [row[0] for row in page.evaluation_rows]
    assert (len(steps), steps[0], steps[1], steps[-1]) == (40, "10", "270", "10,000")
    assert "40 of 1000 evaluations; metrics.jsonl has them all." in render(page)


def test_a_damaged_line_is_told_to_the_reader(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 10')
    assert "Left out line 201 of metrics.jsonl: not JSON" in Outline(_html(folder)).text


def test_a_diverged_run_says_why_it_ended(make_run: MakeRun) -> None:
    folder = make_run(exit_code=3, reason="step 1003: loss nan, gradient norm inf")
    text = Outline(_html(folder)).text
    assert "Diverged: step 1003: loss nan, gradient norm inf" in text


def test_a_resumed_run_counts_the_time_of_every_start(make_run: MakeRun) -> None:
    records = [
        {"step": step, "loss": 5.0, "elapsed_seconds": seconds} for step, seconds in ((1, 60), (2, 120), (3, 30))
    ]
    page = build_page(read_run(make_run(records=records)))
    assert [number.value for number in page.numbers if number.name == "time"] == ["2 min 30 s"]


def test_a_running_run_says_how_long_is_left(make_run: MakeRun) -> None:
    records = [{"step": 1, "loss": 5.0, "elapsed_seconds": 60, "eta_seconds": 600.0}]
    page = build_page(read_run(make_run(records=records, exit_code=None)))
    assert [number.note for number in page.numbers if number.name == "time"] == ["10 min 00 s left"]


def test_later_starts_are_drawn_and_the_first_is_not(make_run: MakeRun) -> None:
    folder = make_run()
    assert curves_of(read_run(folder)).resumed_steps == [500]
    curves = curves_of(read_run(folder))
    assert render_svg(PLOTS[0], curves) != render_svg(PLOTS[0], Curves(curves.records, curves.floor))


def test_output_and_plots_go_where_they_are_asked_to(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(records=[{"step": 1, "loss": math.e}])
    output = tmp_path / "shown" / "page.html"
    assert write_report(folder, output, tmp_path / "pictures") == output
    assert output.is_file()
    assert not (folder / "report.html").exists()
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["loss.png"]


def test_a_report_that_cannot_be_written_is_a_storage_error(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"page\.html: cannot be written"):
        write_report(make_run(), tmp_path / "file" / "page.html")


def test_a_missing_run_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such folder"):
        write_report(tmp_path / "none")


def test_a_report_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'deepspeed'): sys.modules[name] = None\n"
        "import zhgpt.report.write\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_template_is_in_the_package() -> None:
    assert resources.files("zhgpt.report").joinpath("report.html").is_file()
