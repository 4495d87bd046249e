"""Which piece of which matrix lies where in the flat vectors that ZeRO's ranks step, and who orthogonalises the whole.

ZeRO 1 and 2 lay the parameters of a group one after another and cut the row into equal vectors, one a rank: a matrix is
whole on one rank but where a cut goes through it. ZeRO-3 cuts each parameter by itself: every rank has a piece of each.
All ranks compute the same layout from sizes alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A part of a matrix on one rank.

    Attributes:
        rank: of the process group that divides the vector.
        place: where the part begins in that rank's vector.
        first: value of the matrix, row by row, that it begins with.
        size: values in it.
    """

    rank: int
    place: int
    first: int
    size: int


@dataclass(frozen=True)
class Matrix:
    """One matrix to orthogonalise.

    Attributes:
        rows, columns: its shape.
        pieces: together the whole matrix, in order.
        owner: the rank that orthogonalises it.
    """

    rows: int
    columns: int
    pieces: tuple[Piece, ...]
    owner: int


def lay_one_after_another(
    shapes: Sequence[Sequence[int]], starts: Sequence[int], vector_size: int, ranks: int
) -> tuple[Matrix, ...]:
    """The layout of a parameter group under ZeRO 1 and 2, and without ZeRO on one rank.

    Args:
        shapes: of the parameters, (..., rows, columns): each leading index is a matrix of its own.
        starts: where each parameter begins in the row of all.
        vector_size: values on each rank.
        ranks: that divide the row.
    """
    found = []
    for shape, start in zip(shapes, starts, strict=True):
        for matrix_start, size in _matrices(shape):
            first = start + matrix_start
            pieces = [
                Piece(rank, left - rank * vector_size, left - first, right - left)
                for rank, left, right in _cuts(first, first + size, vector_size)
            ]
            found.append((int(shape[-2]), int(shape[-1]), tuple(pieces)))
    return _with_owners(found, ranks)


def lay_each_divided(shapes: Sequence[Sequence[int]], piece_sizes: Sequence[int], ranks: int) -> tuple[Matrix, ...]:
    """The layout of a sub-group under ZeRO-3.

    Args:
        shapes: of the parameters, as for :func:`lay_one_after_another`.
        piece_sizes: values of each parameter on each rank; the last rank's may be padded.
        ranks: that divide each parameter.
    """
    found, place = [], 0
    for shape, piece_size in zip(shapes, piece_sizes, strict=True):
        for first, size in _matrices(shape):
            pieces = [
                Piece(rank, place + left - rank * piece_size, left - first, right - left)
                for rank, left, right in _cuts(first, first + size, piece_size)
            ]
            found.append((int(shape[-2]), int(shape[-1]), tuple(pieces)))
        place += piece_size
    return _with_owners(found, ranks)


def _matrices(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Start and size of each matrix in a parameter."""
    size, whole = int(shape[-2]) * int(shape[-1]), 1
    for length in shape:
        whole *= int(length)
    for start in range(0, whole, size):
        yield start, size


def _cuts(start: int, end: int, length: int) -> Iterator[tuple[int, int, int]]:
    """The parts of [start, end) in each stretch of this length: its number, begin and end."""
    while start < end:
        number = start // length
        right = min(end, (number + 1) * length)
        yield number, start, right
        start = right


def _with_owners(found: Sequence[tuple[int, int, tuple[Piece, ...]]], ranks: int) -> tuple[Matrix, ...]:
    """Gives each matrix to a rank that has the largest piece of it.

    Of several ranks to the one with the least work so far, at matrices of this shape first: those come together, and ranks wait
    for each other there.
    """
    work, at_shape = [0] * ranks, defaultdict[tuple[int, int], list[int]](lambda: [0] * ranks)
    matrices = []
    for rows, columns, pieces in found:
        largest = max(piece.size for piece in pieces)
        of_shape = at_shape[rows, columns]
        able = (piece.rank for piece in pieces if piece.size == largest)
        owner = min(able, key=lambda rank: (of_shape[rank], work[rank], rank))
        of_shape[owner] += 1
        work[owner] += rows * columns * min(rows, columns)
        matrices.append(Matrix(rows, columns, pieces, owner))
    return tuple(matrices)
