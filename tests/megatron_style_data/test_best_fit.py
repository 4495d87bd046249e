"""Best-fit-decreasing packing: the compiled one fills bins exactly as the plain one, and leaves next to nothing empty."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_style_data.best_fit import Bins, pack_best_fit, plain_best_fit


def rooms_of(bins: Bins, sizes: list[int], capacity: int) -> list[int]:
    """Room left in each bin, in the order of the bins."""
    array = np.array(sizes, np.int64)
    return [
        capacity - int(array[bins.pieces[start:end]].sum())
        for start, end in zip(bins.starts[:-1].tolist(), bins.starts[1:].tolist(), strict=True)
    ]


@settings(deadline=None)  # the first example waits for numba
@given(data=st.data(), capacity=st.sampled_from([1, 2, 7, 63, 64, 65, 1000, 9000]))
def test_bins_are_filled_as_by_looking_at_every_bin(data: st.DataObject, capacity: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, capacity), max_size=60))
    bins = pack_best_fit(np.array(sizes, np.int32), np.arange(len(sizes), dtype=np.uint32), capacity)
    rooms = rooms_of(bins, sizes, capacity)
    assert rooms == plain_best_fit(np.array(sizes, np.int32), capacity)
    assert sorted(bins.pieces.tolist()) == list(range(len(sizes)))
    assert bins.by_room.tolist() == [sum(room <= most for room in rooms) for most in range(capacity)]
    for start, end in zip(bins.starts[:-1].tolist(), bins.starts[1:].tolist(), strict=True):
        assert (np.diff(np.array(sizes)[bins.pieces[start:end]]) <= 0).all()


def test_lognormal_documents_leave_less_than_a_fiftieth_of_a_percent_empty() -> None:
    draw = np.random.default_rng(1)
    lengths = np.clip(draw.lognormal(np.log(600), 1.0, 300_000), 8, 100_000).astype(np.int32) + 1
    rests = lengths % 1024
    rests = rests[rests > 0]
    bins = pack_best_fit(rests, np.zeros(len(rests), np.uint32), 1024)
    samples = len(bins.starts) - 1 + int((lengths // 1024).sum())
    assert 1 - int(lengths.sum()) / (samples * 1024) < 0.0002
