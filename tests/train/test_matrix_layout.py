"""Where pieces of matrices lie in ZeRO's vectors: whatever the shapes and the cuts, together they are the matrices."""

import math

from hypothesis import given
from hypothesis import strategies as some

from zhgpt.train.matrix_layout import Matrix, lay_each_divided, lay_one_after_another

SHAPES = some.lists(
    some.one_of(
        some.tuples(some.integers(1, 7), some.integers(1, 7)),
        some.tuples(some.integers(1, 3), some.integers(1, 5), some.integers(1, 5)),
    ),
    min_size=1,
    max_size=6,
)


def places_read(matrices: tuple[Matrix, ...], vector_size: int) -> list[tuple[int, int]]:
    """(Rank, place) of the matrices' values, in order."""
    found = []
    for matrix in matrices:
        position = 0
        for piece in matrix.pieces:
            assert piece.first == position
            assert piece.size > 0
            assert 0 <= piece.place <= vector_size - piece.size
            found += [(piece.rank, piece.place + value) for value in range(piece.size)]
            position += piece.size
        assert position == matrix.rows * matrix.columns
    assert len(set(found)) == len(found), "two values at one place"
    return found


@given(SHAPES, some.integers(1, 5), some.integers(0, 3), some.integers(0, 9))
def test_one_after_another_values_lie_in_the_order_of_the_row(
    shapes: list[tuple[int, ...]], ranks: int, gap: int, padding: int
) -> None:
    """``gap``: between parameters, as zero_optimization's alignment makes it; ``padding``: at the end of the row."""
    starts, end = [], 0
    for shape in shapes:
        starts.append(end)
        end += math.prod(shape) + gap
    vector_size = -(-(end + padding) // ranks)
    matrices = lay_one_after_another(shapes, starts, vector_size, ranks)
    expected = [start + value for start, shape in zip(starts, shapes, strict=True) for value in range(math.prod(shape))]
    assert [rank * vector_size + place for rank, place in places_read(matrices, vector_size)] == expected
    assert all(0 <= matrix.owner < ranks for matrix in matrices)


@given(SHAPES, some.integers(1, 5))
def test_each_divided_every_rank_has_a_piece_of_each_parameter(shapes: list[tuple[int, ...]], ranks: int) -> None:
    sizes = [-(-math.prod(shape) // ranks) for shape in shapes]
    expected, place = [], 0
    for shape, size in zip(shapes, sizes, strict=True):
        expected += [(value // size, place + value % size) for value in range(math.prod(shape))]
        place += size
    assert places_read(lay_each_divided(shapes, sizes, ranks), sum(sizes)) == expected


def test_a_matrix_belongs_to_a_rank_with_the_largest_piece_and_the_least_work() -> None:
    one_after_another = lay_one_after_another([(4, 4), (4, 4), (4, 4)], [0, 16, 32], 24, ranks=2)
    assert [matrix.owner for matrix in one_after_another] == [0, 1, 1]
    each_divided = lay_each_divided([(4, 4), (2, 2), (4, 4), (2, 2)], [8, 2, 8, 2], ranks=2)
    assert [matrix.owner for matrix in each_divided] == [0, 1, 1, 0]
    assert [len(matrix.pieces) for matrix in each_divided] == [2, 2, 2, 2]


def test_each_expert_of_a_stack_is_a_matrix_of_its_own() -> None:
    matrices = lay_one_after_another([(3, 2, 5)], [0], 15, ranks=2)
    assert [(matrix.rows, matrix.columns) for matrix in matrices] == [(2, 5)] * 3
    assert [[piece.rank for piece in matrix.pieces] for matrix in matrices] == [[0], [0, 1], [1]]


def test_matrices_of_each_shape_are_shared_out_evenly() -> None:
    layer = [(8, 8)] * 4 + [(32, 8), (8, 32)]
    for ranks in (2, 4, 8):
        sizes = [math.prod(shape) // ranks for shape in layer * 12]
        matrices = lay_each_divided(layer * 12, sizes, ranks)
        for shape in set(layer):
            owners = [matrix.owner for matrix in matrices if (matrix.rows, matrix.columns) == shape]
            counts = [owners.count(rank) for rank in range(ranks)]
            assert max(counts) - min(counts) <= 1
