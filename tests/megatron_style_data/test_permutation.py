"""The keyed permutation: a bijection, invertible, frozen, without favourites."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.permutation import BlockwisePermutation, Permutation, mix_64

KEYS = st.integers(0, 2**64 - 1)


@given(size=st.integers(1, 3000), key=KEYS)
def test_every_number_has_exactly_one_image(size: int, key: int) -> None:
    images = Permutation(size, key).forward(np.arange(size))
    assert np.array_equal(np.sort(images), np.arange(size))


@given(size=st.integers(1, 2**61), key=KEYS, data=st.data())
def test_inverse_undoes_forward_at_any_size(size: int, key: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    permutation = Permutation(size, key)
    image = permutation.forward(index)
    assert 0 <= image < size
    assert permutation.inverse(image) == index


def test_the_image_of_a_number_does_not_depend_on_the_block_it_is_asked_in() -> None:
    permutation = Permutation(1000, 5)
    together = permutation.forward(np.arange(1000))
    assert [int(permutation.forward(index)) for index in range(0, 1000, 97)] == together[::97].tolist()
    assert np.array_equal(permutation.forward(np.arange(12).reshape(3, 4)), together[:12].reshape(3, 4))


@given(indices=st.lists(st.lists(st.integers(0, 4999), max_size=6), max_size=8))
def test_images_remembered_in_blocks_are_the_images(indices: list[list[int]]) -> None:
    permutation = Permutation(5000, 9)
    blockwise = BlockwisePermutation(permutation)
    for asked in indices:
        assert np.array_equal(blockwise.forward(np.array(asked, np.int64)), permutation.forward(asked))


def test_the_arithmetic_is_frozen() -> None:
    assert mix_64(1, 2, 3) == 15020427595393229491
    assert Permutation(10, mix_64(1234, 0)).forward(np.arange(10)).tolist() == [5, 8, 1, 3, 4, 2, 7, 0, 9, 6]
    assert Permutation(10**12, 1).forward(np.arange(3)).tolist() == [762110459973, 893859260500, 944264464841]


def test_another_key_gives_another_order() -> None:
    orders = {tuple(Permutation(50, mix_64(1, epoch)).forward(np.arange(50)).tolist()) for epoch in range(200)}
    assert len(orders) == 200


@pytest.mark.parametrize("size", [2, 3, 5, 16, 50])
def test_no_position_is_a_favourite(size: int) -> None:
    keys = 2000
    counts = np.zeros((size, size))
    for key in range(keys):
        counts[np.arange(size), Permutation(size, mix_64(7, key)).forward(np.arange(size))] += 1
    expected = keys / size
    chi_square_per_degree = ((counts - expected) ** 2 / expected).sum() / (size - 1) ** 2
    assert chi_square_per_degree < 3.0


def test_a_number_outside_the_range_is_refused() -> None:
    with pytest.raises(IndexError, match=r"\[0, 10\), got 3 to 10"):
        Permutation(10, 1).forward([3, 10])


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="1 <= size"):
        Permutation(0, 1)
