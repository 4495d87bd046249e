"""The curve that a run of this size should follow, beside the real one."""

import json
from pathlib import Path

import pytest
from recorded_runs import recorded

from zhgpt.evaluate.learning_verdict import Floor
from zhgpt.plan.scaling_curve import expect, unigram_of_the_runs
from zhgpt.report.drawing import Curves
from zhgpt.report.expected import expected_of
from zhgpt.report.plots import PLOTS, render_svg
from zhgpt.report.recorded_run import read_run
from zhgpt.train.json_lines import encode_line


def run_folder(folder: Path, environment: dict[str, object], name: str = "healthy_demo") -> Path:
    records = recorded(name).records
    (folder / "metrics.jsonl").write_bytes(b"".join(encode_line(record) for record in records))
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


SIZE = {
    "floor": {"unigram_bits_per_byte": 2.0},
    "parameters": {"active": 3_147_712},
    "batch_plan": {"tokens_per_step": 1024, "total_tokens": 1_638_400},
}


def test_its_steps_follow_a_batch_that_grows(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, SIZE)
    lines = [
        {"step": step, "loss": 5.0, "consumed_tokens": tokens}
        for step, tokens in ((1, 1_000), (200, 200_000), (300, 1_000_000))
    ]
    (folder / "metrics.jsonl").write_bytes(b"".join(encode_line(line) for line in lines))
    expected = expected_of(read_run(folder))
    assert expected is not None
    assert (expected.steps[0], expected.steps[-1]) == (100, 300)
    halfway = min(range(len(expected.steps)), key=lambda place: abs(expected.steps[place] - 200))
    assert expected.middle[halfway] == pytest.approx(
        expect(3_147_712, 200_000).bits_per_byte * 2.0 / unigram_of_the_runs(), rel=0.02
    )


def test_it_ends_where_the_planner_would_expect_a_run_that_ends_there(tmp_path: Path) -> None:
    expected = expected_of(read_run(run_folder(tmp_path, SIZE)))
    assert expected is not None
    assert expected.steps[-1] == 431
    wanted = expect(3_147_712, 431 * 1024).bits_per_byte * 2.0 / unigram_of_the_runs()
    assert expected.middle[-1] == pytest.approx(wanted)
    assert all(
        low <= middle <= high for low, middle, high in zip(expected.low, expected.middle, expected.high, strict=True)
    )


def test_the_demo_ends_within_its_band_and_lies_somewhat_above_it_while_its_rate_is_high(tmp_path: Path) -> None:
    whole = {
        "floor": {"unigram_bits_per_byte": 2.0012},
        "parameters": {"active": 3_147_712},
        "batch_plan": {"tokens_per_step": 2048, "total_tokens": 1_638_400},
    }
    run = read_run(run_folder(tmp_path, whole, "healthy_muon_demo"))
    expected = expected_of(run)
    assert expected is not None
    held_out = {
        record["step"]: record["valid_bits_per_byte"] for record in run.records if "valid_bits_per_byte" in record
    }
    assert list(held_out) == [200, 400, 600, 800]
    for step, value in held_out.items():
        nearest = min(range(len(expected.steps)), key=lambda place: abs(expected.steps[place] - step))
        if step == 800:
            assert expected.low[nearest] < value < expected.high[nearest]
        else:
            assert expected.middle[nearest] < value < 1.06 * expected.middle[nearest]


def test_it_falls_and_is_drawn(tmp_path: Path) -> None:
    run = read_run(run_folder(tmp_path, SIZE))
    expected = expected_of(run)
    assert expected is not None
    assert list(expected.middle) == sorted(expected.middle, reverse=True)
    plot = next(plot for plot in PLOTS if plot.name == "bits_per_byte")
    drawn = [render_svg(plot, Curves(run.records, Floor(), expected=curve)) for curve in (None, expected)]
    assert None not in drawn
    assert drawn[0] != drawn[1]


def test_without_the_runs_size_there_is_none(tmp_path: Path) -> None:
    assert expected_of(read_run(run_folder(tmp_path, {}))) is None
