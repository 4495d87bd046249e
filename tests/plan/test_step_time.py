"""The step-time model: published throughputs, and what must hold whatever its constants are."""

import dataclasses
import re
from pathlib import Path

import pytest

from zhgpt.config.loading import load_run_config, resolve_model
from zhgpt.plan.calibration import (
    RowError,
    fit,
    leave_one_out,
    load_constants,
    load_points,
    median_error,
    predicted_rate,
)
from zhgpt.plan.gpus import GPUS, Cluster
from zhgpt.plan.layout import Layout
from zhgpt.plan.step_time import Constants, StepTime, predict_step

MODEL = resolve_model(load_run_config("configs/qwen3_300m.yaml"), 32_000)


def step(
    stage: int = 1, *, gpus: int = 1, nodes: int = 1, micro: int = 8, accumulation: int = 4, link: str = "infiniband-200",
    overlap: bool = True, gpu: str = "L20", recomputed: int = 0,
) -> StepTime:  # fmt: skip
    layout = Layout(
        stage,
        "bf16",
        gpus * nodes,
        accumulation=accumulation,
        recomputed_layers=tuple(range(recomputed)),
        zero={"overlap_comm": overlap},
    )
    return predict_step(MODEL, layout, Cluster(GPUS[gpu], nodes, gpus, link), micro, 2048, load_constants())


def test_there_are_at_most_six_fitted_constants() -> None:
    assert len(dataclasses.fields(Constants)) <= 6


def test_the_committed_constants_are_those_of_the_fit() -> None:
    committed, fitted = load_constants(), fit(load_points())
    assert dataclasses.asdict(committed) == pytest.approx(dataclasses.asdict(fitted), rel=1e-3)


def test_the_median_error_on_the_published_rows_is_at_most_fifteen_percent() -> None:
    """Errors with the row in the fit; those without it, which take fourteen fits, are in docs/plan.md and its command."""
    constants = load_constants()
    rows = [RowError(point, rate, rate) for point in load_points() for rate in [predicted_rate(point, constants)]]
    assert median_error(rows) <= 0.15
    assert len(rows) == 14


def test_leaving_a_row_out_of_the_fit_still_predicts_it() -> None:
    points = load_points()
    (aside,) = [point for point in points if point.name == "GPT 3B"]
    others = fit([point for point in points if point is not aside])
    assert predicted_rate(aside, others) == pytest.approx(aside.tokens_per_second_per_gpu, rel=0.15)


def test_one_rank_communicates_nothing() -> None:
    alone = step()
    assert alone.exposed_communication == alone.hidden_communication == 0


def test_stage_2_hides_communication_behind_the_backward_pass_where_it_may() -> None:
    beside, after = step(2, gpus=8), step(2, gpus=8, overlap=False)
    assert beside.hidden_communication > 0
    assert after.hidden_communication == 0
    assert beside.total < after.total


def test_stage_3_communicates_more_than_stage_2_and_stage_2_more_with_more_micro_steps() -> None:
    def bytes_moved(time: StepTime) -> float:
        return time.exposed_communication + time.hidden_communication

    assert bytes_moved(step(3, gpus=8)) > bytes_moved(step(2, gpus=8))
    assert bytes_moved(step(2, gpus=8, accumulation=8)) > bytes_moved(step(2, gpus=8, accumulation=4))
    assert bytes_moved(step(1, gpus=8, accumulation=8)) == pytest.approx(bytes_moved(step(1, gpus=8, accumulation=4)))


def test_a_slow_link_between_hosts_costs_time() -> None:
    assert step(2, gpus=8, nodes=2, link="ethernet-10").total > step(2, gpus=8, nodes=2, link="infiniband-400").total


def test_a_larger_micro_batch_is_never_slower_a_token() -> None:
    seconds = [step(micro=micro, accumulation=1).total / micro for micro in (1, 2, 4, 8)]
    assert seconds == sorted(seconds, reverse=True)


def test_checkpointing_costs_a_forward_pass() -> None:
    layers = MODEL.num_hidden_layers
    assert 1.2 < step(recomputed=layers).total / step().total < 1.35
    assert step(recomputed=layers // 2).total < step(recomputed=layers).total


def test_a_gpu_without_bf16_units_is_slow_in_bf16() -> None:
    assert step(gpu="V100").total > 4 * step(gpu="L20").total


def test_the_document_reports_every_row_predicted_without_itself() -> None:
    text = Path("docs/plan.md").read_text(encoding="utf-8")
    for point in load_points():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {point.label} |")]
        measured, left_out, error = (cell.strip() for cell in row.split("|")[3:6])
        assert float(measured.replace(",", "")) == point.tokens_per_second_per_gpu
        ratio = float(left_out.replace(",", "")) / point.tokens_per_second_per_gpu
        assert float(error.rstrip(" %")) == pytest.approx(100 * (ratio - 1), abs=0.06)
    assert float(re.findall(r"Median of the absolute errors\*\* \| \| \| \| ([\d.]+) %", text)[0]) <= 15


@pytest.mark.slow
def test_the_document_has_the_rows_that_leaving_each_out_gives() -> None:
    rows = leave_one_out(load_points())
    text = Path("docs/plan.md").read_text(encoding="utf-8")
    for row in rows:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row.point.label} |")]
        _, left_out, error = (cell.strip() for cell in line.split("|")[3:6])
        assert float(left_out.replace(",", "")) == pytest.approx(row.left_out, rel=1e-3)
        assert float(error.rstrip(" %")) == pytest.approx(100 * row.error, abs=0.11)
    median = re.findall(r"Median of the absolute errors\*\* \| \| \| \| ([\d.]+) %", text)[0]
    assert float(median) == pytest.approx(100 * median_error(rows), abs=0.11)


def muon_seconds(stage: int, gpus: int, *, steps: int = 5) -> float:
    """How much longer a step is with Muon than with AdamW."""
    cluster = Cluster(GPUS["L20"], 1, gpus)
    adam = Layout(stage, "bf16", gpus, zero={})
    layouts = adam, dataclasses.replace(adam, optimizer="muon", newton_schulz_steps=steps)
    seconds = [predict_step(MODEL, layout, cluster, 8, 2048, load_constants()).update for layout in layouts]
    return seconds[1] - seconds[0]


def test_muon_orthogonalises_on_all_ranks_together_but_at_stage_0() -> None:
    assert muon_seconds(1, 8) == pytest.approx(muon_seconds(1, 1) / 8)
    assert muon_seconds(0, 8) == pytest.approx(muon_seconds(1, 1))
    assert muon_seconds(3, 8) > muon_seconds(1, 8)  # where matrices travel
    assert muon_seconds(1, 1, steps=10) == pytest.approx(2 * muon_seconds(1, 1))
