"""Matrices in pieces on real ranks: whole on one of them, so many at a time, and back."""

import pytest
import torch
from exchanged_matrices import exchange, layout_of, made_up, vectors_of
from ranks import Ranks

from zhgpt.train.matrix_exchange import rounds_of

KINDS = ("one after another", "each divided")
BATCHES = (1, 50, 2**24)
DTYPES = (torch.float32, torch.bfloat16)
RANKS = 3


@pytest.fixture(scope="module")
def found(ranks: Ranks):
    cells = [(kind, largest, dtype) for kind in KINDS for largest in BATCHES for dtype in DTYPES]
    outcomes = ranks.results(f"{exchange.__module__}:exchange", cells, world_size=RANKS)
    return {cell: [outcome[index] for outcome in outcomes] for index, cell in enumerate(cells)}


@pytest.mark.distributed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("largest", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_piece_gets_its_part_of_what_the_whole_matrix_becomes(
    found, kind: str, largest: int, dtype: torch.dtype
) -> None:
    matrices, size = layout_of(kind, RANKS)
    cubes = [matrix @ matrix.mT @ matrix for matrix in (values.to(dtype) for values in made_up(matrices))]
    results = torch.tensor([outcome["result"] for outcome in found[kind, largest, dtype]])
    expected = vectors_of(matrices, size, cubes, RANKS)
    torch.testing.assert_close(results.to(dtype), expected.to(dtype), atol=torch.finfo(dtype).eps * 8, rtol=1e-2)


@pytest.mark.distributed
@pytest.mark.parametrize("kind", KINDS)
def test_no_more_values_are_whole_at_a_time_than_were_allowed(found, kind: str) -> None:
    for largest in BATCHES:
        for outcome in found[kind, largest, torch.float32]:
            assert all(count == 1 or count * rows * columns <= largest for count, rows, columns in outcome["batches"])
    # With 50 values two of the matrices of 24 go together.
    counts = [count for outcome in found[kind, 50, torch.float32] for count, *_ in outcome["batches"]]
    assert max(counts) == 2
    assert sum(counts) == len(layout_of(kind, 1)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_has_matrices_of_one_shape_and_every_matrix_a_round(kind: str) -> None:
    matrices, _ = layout_of(kind, RANKS)
    for largest in BATCHES:
        rounds = rounds_of(matrices, largest)
        assert sorted(m for of_round in rounds for m in of_round) == list(range(len(matrices)))
        assert all(len({(matrices[m].rows, matrices[m].columns) for m in of_round}) == 1 for of_round in rounds)
    assert len(rounds_of(matrices, 2**24)) == len({(matrix.rows, matrix.columns) for matrix in matrices})
