"""DeepSpeed itself, on two ranks, given what the shipped JSONs compose to."""

from pathlib import Path
from typing import Any

import pytest
from ranks import Ranks

pytestmark = pytest.mark.distributed

DS_CONFIGS = Path(__file__).parents[2] / "ds_configs"
SHIPPED = sorted(path.stem for path in DS_CONFIGS.glob("*.json"))
# Autocast is a switch of the whole process in DeepSpeed, so the cell that takes it comes last.
CELLS = [
    *[(name, "fp32", micro) for name in SHIPPED for micro in (8, 4)],
    *[(name, "bf16", 4) for name in SHIPPED if name != "zero0"],
    ("zero0", "bf16", 4),
]
Cells = dict[tuple[str, str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def cells(ranks: Ranks) -> Cells:
    """All cells, trained in one launch of two ranks; what rank 0 saw."""
    arguments = [(str(DS_CONFIGS / f"{name}.json"), precision, micro) for name, precision, micro in CELLS]
    first, second = ranks.run("composed_engines:train_cells", arguments, world_size=2, timeout=240)
    assert first.code == 0, first.output[-4000:]
    assert second.code == 0, second.output[-4000:]
    return dict(zip(CELLS, first.result, strict=True))


@pytest.mark.parametrize("micro", [8, 4])
@pytest.mark.parametrize("name", SHIPPED)
def test_fp32_losses_are_equal_whatever_the_stage_and_the_accumulation(cells: Cells, name: str, micro: int) -> None:
    assert cells[name, "fp32", micro]["losses"] == pytest.approx(cells["zero0", "fp32", 8]["losses"], abs=1e-5)


@pytest.mark.parametrize("name", SHIPPED)
def test_bf16_losses_are_near_those_of_zero1(cells: Cells, name: str) -> None:
    if name == "zero0":
        # Autocast keeps fp32 weights: near the fp32 run instead.
        assert cells[name, "bf16", 4]["losses"] == pytest.approx(cells[name, "fp32", 4]["losses"], abs=3e-2)
    else:
        assert cells[name, "bf16", 4]["losses"] == pytest.approx(cells["zero1", "bf16", 4]["losses"], abs=5e-3)


def test_no_two_steps_have_the_same_loss(cells: Cells) -> None:
    for cell, found in cells.items():
        assert len(set(found["losses"])) == len(found["losses"]), cell


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(map(str, cell)))
def test_the_engine_takes_what_was_composed(cells: Cells, cell: tuple[str, str, int]) -> None:
    name, precision, micro = cell
    found = cells[cell]
    assert found["stage"] == int(name.partition("zero")[2][0])
    assert found["clipping"] == (0.0 if name == "zero0" else 1.0)
    assert found["accumulation"] == {8: 1, 4: 2}[micro]
    assert found["accumulated_in"] == "torch.float32"
    assert found["tag_failure_stops"] is True
    assert found["autocast"] is (precision == "bf16" and name == "zero0")
    assert found["weights"] == ("torch.bfloat16" if precision == "bf16" and name != "zero0" else "torch.float32")


def test_zero1_in_bf16_is_another_optimizer_class(cells: Cells) -> None:
    assert cells["zero1", "bf16", 4]["optimizer"] == "BF16_Optimizer"
    assert cells["zero2", "bf16", 4]["optimizer"] == "DeepSpeedZeroOptimizer"
