"""Matrices that lie in pieces on real ranks, made whole, cubed and brought back; runs on each rank."""

from typing import Any

import torch
import torch.distributed

from zhgpt.train.matrix_exchange import MatrixExchange
from zhgpt.train.matrix_layout import Matrix, Piece, lay_each_divided, lay_one_after_another

SHAPES = [(4, 6), (6, 4), (4, 6), (5, 5), (3, 4, 6), (2, 3), (4, 6)]
"""Seven parameters, one of them a stack of three."""


def layout_of(kind: str, ranks: int) -> tuple[tuple[Matrix, ...], int]:
    """The matrices and how many values of them each rank has."""
    lengths = [torch.Size(shape).numel() for shape in SHAPES]
    if kind == "each divided":
        sizes = [-(-length // ranks) for length in lengths]
        return lay_each_divided(SHAPES, sizes, ranks), sum(sizes)
    vector_size = -(-sum(lengths) // ranks)
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    return lay_one_after_another(SHAPES, starts, vector_size, ranks), vector_size


def vectors_of(matrices: tuple[Matrix, ...], size: int, whole: list[torch.Tensor], ranks: int) -> torch.Tensor:
    """(ranks, size): these matrices laid out, zeros between."""
    vectors = torch.zeros(ranks, size)
    for matrix, values in zip(matrices, whole, strict=True):
        for piece in matrix.pieces:
            vectors[piece.rank, piece.place : piece.place + piece.size] = values.reshape(-1)[
                piece.first : piece.first + piece.size
            ]
    return vectors


def made_up(matrices: tuple[Matrix, ...]) -> list[torch.Tensor]:
    """The same values on every rank."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(matrix.rows, matrix.columns, generator=generator) for matrix in matrices]


def exchange(cells: list[tuple[str, int, torch.dtype]]) -> list[dict[str, Any]]:
    """For each layout, largest batch and dtype what this rank gets back, and how many values it cubed at a time."""
    torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        return [_exchange(kind, largest, dtype, rank, ranks) for kind, largest, dtype in cells]
    finally:
        torch.distributed.destroy_process_group()


def _exchange(kind: str, largest: int, dtype: torch.dtype, rank: int, ranks: int) -> dict[str, Any]:
    matrices, size = layout_of(kind, ranks)
    vector = vectors_of(matrices, size, made_up(matrices), ranks)[rank]
    result, batches = torch.zeros(size), []

    def direction(piece: Piece) -> torch.Tensor:
        assert piece.rank == rank
        return vector[piece.place : piece.place + piece.size]

    def cube(whole: torch.Tensor) -> torch.Tensor:
        assert whole.dtype == dtype
        batches.append(tuple(whole.shape))
        return whole @ whole.mT @ whole

    group = torch.distributed.group.WORLD
    like = torch.empty(0, dtype=dtype)
    for _, piece, values in MatrixExchange(matrices, rank, ranks, group, largest).apply(direction, cube, like):
        result[piece.place : piece.place + piece.size] = values
    return {"result": result.tolist(), "batches": batches}
