"""Muon's step, and Muon on real ranks against a plain loop that knows neither ZeRO nor layouts."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from muon_engines import STEPS, Cell, plain_losses
from ranks import Ranks
from tiny import Tiny, assert_same_checkpoint, same_numbers

from zhgpt.train.matrix_exchange import MatrixExchange
from zhgpt.train.matrix_layout import lay_one_after_another
from zhgpt.train.muon import Muon, orthogonalise

ONE_RANK = [Cell(stage, micro_steps=micro_steps) for stage in range(4) for micro_steps in (1, 4)]
TWO_RANKS = [
    *ONE_RANK,
    Cell(2, model="gpt2", offload=True),
    Cell(3, model="untied", offload=True),
    Cell(
        1,
        zero=(("round_robin_gradients", True),),
        optim=(("muon_nesterov", False), ("muon_newton_schulz_steps", 3), ("muon_learning_rate", 0.02)),
    ),
    Cell(0, model="mixture", ep_size=2),
    Cell(2, model="mixture", ep_size=2, micro_steps=4),
    Cell(3, model="mixture", zero=(("sub_group_size", 3000), ("stage3_param_persistence_threshold", 0))),
]
BF16 = [Cell(stage, precision="bf16", micro_steps=2) for stage in (1, 2, 3)]


def test_every_singular_value_comes_near_one_and_the_vectors_stay() -> None:
    for shape in ((1, 6, 10), (2, 10, 6), (1, 8, 8)):
        matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        inside = left.mT @ orthogonalise(matrices, 5) @ right.mT
        values = inside.diagonal(dim1=-2, dim2=-1)
        assert ((values > 0.6) & (values < 1.3)).all()
        assert (inside - torch.diag_embed(values)).abs().max() < 1e-6


def test_a_matrix_of_zeros_stays_one_and_small_ones_do_not_vanish() -> None:
    matrix = torch.randn(1, 6, 10, generator=torch.Generator().manual_seed(1))
    assert not orthogonalise(torch.zeros(1, 4, 6), 5).any()
    torch.testing.assert_close(orthogonalise(matrix * 1e-20, 5), orthogonalise(matrix, 5))


def test_matrices_of_any_shapes_are_each_orthogonalised_by_itself() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 6), (6, 4), (4, 6), (3, 3), (2, 4, 6))
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    groups = [{"params": parameters, "algorithm": "muon", "weight_decay": 0.0}]
    settings: dict[str, Any] = {"lr": 1.0, "betas": (0.9, 0.9), "eps": 1e-8, "momentum": 0.9, "nesterov": True}
    Muon(groups, **settings, steps=5, dtype=torch.float32).step()
    for parameter in parameters:
        assert parameter.grad is not None
        nearest = orthogonalise(parameter.grad.view(-1, *parameter.shape[-2:]), 5).view(parameter.shape)
        torch.testing.assert_close(parameter.detach(), -0.2 * max(parameter.shape[-2:]) ** 0.5 * nearest)


def test_a_round_is_gone_when_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def watched(matrices: torch.Tensor, steps: int) -> torch.Tensor:
        assert [array() for array in made] == [None] * len(made)
        array = np.zeros(matrices.shape, np.float32)
        made.append(weakref.ref(array))
        return torch.from_numpy(array)

    monkeypatch.setattr("zhgpt.train.muon.orthogonalise", watched)
    vector = torch.nn.Parameter(torch.zeros(3 * 24))
    vector.grad = torch.ones(3 * 24)
    groups = [{"params": [vector], "algorithm": "muon", "weight_decay": 0.0}]
    settings: dict[str, Any] = {"lr": 1.0, "betas": (0.9, 0.9), "eps": 1e-8, "momentum": 0.9, "nesterov": True}
    muon = Muon(groups, **settings, steps=5, dtype=torch.float32)
    matrices = lay_one_after_another([(4, 6)] * 3, [0, 24, 48], 72, ranks=1)
    muon.exchanges = {vector: MatrixExchange(matrices, largest_batch=24)}
    muon.step()
    assert len(made) == 3


def test_a_flat_vector_whose_layout_is_not_known_is_refused() -> None:
    vector = torch.nn.Parameter(torch.zeros(6))
    vector.grad = torch.ones(6)
    groups = [{"params": [vector], "algorithm": "muon", "weight_decay": 0.0}]
    settings: dict[str, Any] = {"lr": 1.0, "betas": (0.9, 0.9), "eps": 1e-8, "momentum": 0.9, "nesterov": True}
    with pytest.raises(AssertionError, match="a flat vector without a layout"):
        Muon(groups, **settings, steps=5, dtype=torch.float32).step()


Outcomes = dict[tuple[int, Cell], dict[str, Any]]


@pytest.fixture(scope="module")
def outcomes(ranks: Ranks) -> Outcomes:
    """What rank 0 saw of every cell: one launch for each number of ranks."""
    found: Outcomes = {}
    for world_size, cells in ((1, ONE_RANK), (2, [*TWO_RANKS, *BF16])):
        results = ranks.results("muon_engines:train_cells", cells, world_size=world_size, timeout=240)
        for cell, result in zip(cells, results[0], strict=True):
            found[world_size, cell] = result
    return found


@pytest.fixture(scope="module")
def reference() -> Callable[[Cell, int], dict[str, Any]]:
    """The plain loop's losses and norms, computed once for cells that only ZeRO tells apart."""
    known: dict[Any, dict[str, Any]] = {}

    def look_up(cell: Cell, world_size: int) -> dict[str, Any]:
        parts = cell.micro_steps * world_size if cell.model == "mixture" else 1  # routers' losses depend on the parts
        key = (cell.model, cell.optim, parts)
        if key not in known:
            known[key] = plain_losses(cell, world_size)
        return known[key]

    return look_up


CELLS = [*((1, cell) for cell in ONE_RANK), *((2, cell) for cell in TWO_RANKS)]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("world_size", "cell"), CELLS, ids=[f"{cell}-{size}ranks" for size, cell in CELLS])
def test_twenty_steps_under_zero_are_those_of_the_plain_loop(
    outcomes: Outcomes, reference: Callable[[Cell, int], dict[str, Any]], world_size: int, cell: Cell
) -> None:
    expected, found = reference(cell, world_size), outcomes[world_size, cell]
    assert len(found["losses"]) == STEPS
    np.testing.assert_allclose(found["losses"], expected["losses"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(found["norms"], expected["norms"], rtol=1e-4)
    assert max(expected["norms"]) > 0.5, "nothing was clipped"
    assert expected["losses"][0] - expected["losses"][-1] > 1, "twenty steps must learn, or equal losses prove nothing"


@pytest.mark.slow
@pytest.mark.distributed
def test_bf16_agrees_between_stages(outcomes: Outcomes) -> None:
    first, *others = (outcomes[2, cell]["losses"] for cell in BF16)
    for other in others:
        np.testing.assert_allclose(other, first, atol=5e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "bf16")])
def test_a_run_with_muon_goes_on_bit_for_bit(
    ranks: Ranks, tiny: Tiny, tmp_path: Path, stage: int, precision: str
) -> None:
    """Saved after step 2, and gone on with in another folder: with the momentum, rates and decay of the whole run."""
    words = ("optim.name=muon", "optim.embedding_learning_rate=2e-3", "train.steps=4", "evaluate.prompts=[]")
    words = (*words, "checkpoint.every_steps=2", f"train.precision={precision}")
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    ranks.results("faults:train", tiny.argv(whole, *words, stage=stage))
    saved = str(whole / "checkpoints" / "step-00000002")
    ranks.results("faults:train", tiny.argv(rest, *words, stage=stage, resume=saved))
    assert same_numbers(rest) == same_numbers(whole)[2:]
    name = "checkpoints/step-00000004"
    assert_same_checkpoint(whole / name, rest / name)
