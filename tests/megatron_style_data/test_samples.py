"""Samples of a run: every token a target once an epoch, in an order that depends on nothing but seed and data."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.indexed_dataset import HEADER, MAGIC, IndexedDataset, path_bin, path_idx
from megatron_style_data.permutation import Permutation, mix_64
from megatron_style_data.samples import Samples

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def numbered_documents(lengths: list[int]) -> list[list[int]]:
    """Documents whose tokens are all different, so that a token says where it lies."""
    ends = np.cumsum(lengths)
    return [list(range(end - length, end)) for end, length in zip(ends.tolist(), lengths, strict=True)]


def plain_sample(
    documents: list[list[int]], sequence_length: int, seed: int, sample: int, *, shuffle: bool
) -> tuple[list[int], list[int], list[int], list[bool]]:
    """Tokens, document ids, position ids and target mask of one sample, token by token."""
    circle = [(token, place == 0) for document in documents for place, token in enumerate(document)]
    pieces = -(-len(circle) // sequence_length)
    epoch, index = divmod(sample, pieces)
    phase = mix_64(seed, epoch, 2) % sequence_length if shuffle else 0
    piece = int(Permutation(pieces, mix_64(seed, epoch, 1)).forward(index)) if shuffle else index
    tokens, ids, positions, mask = [], [], [], []
    for place in range(sequence_length + 1):
        token, starts = circle[(phase + piece * sequence_length - 1 + place) % len(circle)]
        new_document = place > 0 and starts
        tokens.append(token)
        ids.append(0 if place == 0 else ids[-1] + new_document)
        positions.append(0 if place == 0 or new_document else positions[-1] + 1)
        if place > 0:
            mask.append(piece * sequence_length + place - 1 < len(circle))
    return tokens, ids, positions, mask


@QUICK
@given(
    lengths=LENGTHS,
    sequence_length=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
    shuffle=st.booleans(),
    dtype=st.sampled_from(["uint16", "int32"]),
)
def test_batches_equal_a_plain_loop(
    write_dataset: Callable[..., Any],
    tmp_path: Path,
    lengths: list[int],
    sequence_length: int,
    seed: int,
    shuffle: bool,
    dtype: str,
) -> None:
    documents = numbered_documents(lengths)
    write_dataset(tmp_path / "d", documents, dtype=dtype)
    samples = Samples.open(tmp_path / "d", sequence_length=sequence_length, seed=seed, shuffle=shuffle)
    wanted = np.arange(2 * samples.samples_per_epoch + 2)
    batch = samples.batch(wanted)
    assert batch.tokens.dtype == batch.document_ids.dtype == batch.position_ids.dtype == np.int64
    for row, sample in enumerate(wanted.tolist()):
        tokens, ids, positions, mask = plain_sample(documents, sequence_length, seed, sample, shuffle=shuffle)
        assert batch.tokens[row].tolist() == tokens
        assert batch.document_ids[row].tolist() == ids
        assert batch.position_ids[row].tolist() == positions
        assert batch.target_mask[row].tolist() == mask
    document_of_token = np.repeat(np.arange(len(lengths)), lengths)
    assert np.array_equal(samples.target_documents(wanted), document_of_token[batch.tokens[:, 1:]])


@QUICK
@given(lengths=LENGTHS, sequence_length=st.integers(1, 60), seed=st.integers(0, 99), epoch=st.integers(0, 10**9))
def test_every_token_is_a_target_exactly_once_an_epoch(
    write_dataset: Callable[..., Any], tmp_path: Path, lengths: list[int], sequence_length: int, seed: int, epoch: int
) -> None:
    write_dataset(tmp_path / "d", numbered_documents(lengths))
    samples = Samples.open(tmp_path / "d", sequence_length=sequence_length, seed=seed)
    batch = samples.batch(epoch * samples.samples_per_epoch + np.arange(samples.samples_per_epoch))
    targets = Counter(batch.tokens[:, 1:][batch.target_mask].tolist())
    assert targets == Counter(range(sum(lengths)))


@QUICK
@given(
    lengths=LENGTHS,
    sequence_length=st.integers(1, 60),
    first=st.integers(0, 200),
    count=st.integers(0, 80),
    data=st.data(),
)
def test_targets_in_counts_the_unmasked_targets(
    write_dataset: Callable[..., Any],
    tmp_path: Path,
    lengths: list[int],
    sequence_length: int,
    first: int,
    count: int,
    data: st.DataObject,
) -> None:
    write_dataset(tmp_path / "d", numbered_documents(lengths))
    shuffle = data.draw(st.booleans())
    samples = Samples.open(tmp_path / "d", sequence_length=sequence_length, seed=3, shuffle=shuffle)
    assert samples.targets_in(first, count) == int(samples.batch(np.arange(first, first + count)).target_mask.sum())


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_samples_do_not_depend_on_how_they_are_divided_among_ranks(
    write_dataset: Callable[..., Any], tmp_path: Path, ranks: int
) -> None:
    write_dataset(tmp_path / "d", numbered_documents([13, 200, 7, 41]))
    wanted = np.arange(5, 5 + 42)
    together = Samples.open(tmp_path / "d", sequence_length=8, seed=1).batch(wanted)
    for rank in range(ranks):
        alone = Samples.open(tmp_path / "d", sequence_length=8, seed=1).batch(wanted[rank::ranks])
        assert np.array_equal(alone.tokens, together.tokens[rank::ranks])
        assert np.array_equal(alone.position_ids, together.position_ids[rank::ranks])


def test_cuts_and_order_change_from_epoch_to_epoch_and_with_the_seed(
    write_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "d", numbered_documents([100, 100, 100]))
    samples = Samples.open(tmp_path / "d", sequence_length=16, seed=1)
    per_epoch = samples.samples_per_epoch
    epochs = [samples.batch(epoch * per_epoch + np.arange(per_epoch)).tokens.tolist() for epoch in range(4)]
    other_seed = Samples.open(tmp_path / "d", sequence_length=16, seed=2).batch(np.arange(per_epoch)).tokens.tolist()
    assert len({str(order) for order in [*epochs, other_seed]}) == 5


def test_a_late_sample_costs_no_more_than_an_early_one(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([9, 14]))
    samples = Samples.open(tmp_path / "d", sequence_length=4, seed=1)
    sample = 10**15 + 3
    assert (
        samples.batch([sample]).tokens[0].tolist()
        == plain_sample(numbered_documents([9, 14]), 4, 1, sample, shuffle=True)[0]
    )


def test_the_order_of_a_run_is_frozen(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    """The worked example of docs/data_format.md."""
    write_dataset(tmp_path / "d", numbered_documents([6, 4]))
    batch = Samples.open(tmp_path / "d", sequence_length=4, seed=1).batch(np.arange(6))
    assert batch.tokens.tolist() == [
        [6, 7, 8, 9, 0],
        [2, 3, 4, 5, 6],
        [0, 1, 2, 3, 4],
        [4, 5, 6, 7, 8],
        [0, 1, 2, 3, 4],
        [8, 9, 0, 1, 2],
    ]
    assert batch.target_mask.sum(axis=1).tolist() == [4, 4, 2, 4, 4, 2]


def test_a_split_shows_only_its_own_tokens_and_wraps_within_itself(
    write_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5, 4, 3]), splits={"train": 2, "valid": 1, "test": 1})
    valid = Samples.open(tmp_path / "d", "valid", sequence_length=3, shuffle=False)
    assert valid.tokens == 4
    assert valid.batch([0, 1]).tokens.tolist() == [[13, 10, 11, 12], [12, 13, 10, 11]]
    assert valid.batch([0, 1]).target_mask.tolist() == [[True, True, True], [True, False, False]]
    assert valid.batch([0, 1]).position_ids.tolist() == [[0, 0, 1, 2], [0, 1, 0, 1]]


def test_documents_of_several_and_of_no_sequences_start_where_their_first_token_lies(tmp_path: Path) -> None:
    lengths = np.array([2, 3, 0, 4, 1], np.int32)
    documents = np.array([0, 2, 2, 4, 5, 5], np.int64)  # two sequences, none, two (one without tokens), one, none
    pointers = np.array([0, 4, 10, 10, 18], np.int64)
    path_bin(tmp_path / "d").write_bytes(np.arange(10, dtype=np.uint16).tobytes())
    path_idx(tmp_path / "d").write_bytes(
        HEADER.pack(MAGIC, 1, 8, 5, 6) + lengths.tobytes() + pointers.tobytes() + documents.tobytes()
    )
    dataset = IndexedDataset.open(tmp_path / "d")
    samples = Samples(dataset, first_token=0, tokens=10, sequence_length=10, seed=0, shuffle=False)
    assert samples.batch([0]).document_ids.tolist() == [[0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3]]
    assert samples.batch([0]).position_ids.tolist() == [[0, 0, 1, 2, 3, 4, 0, 1, 2, 3, 0]]


def test_opening_writes_nothing(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5]))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    Samples.open(tmp_path / "d", sequence_length=4).batch([0, 1])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_missing_split_is_named(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5]))
    with pytest.raises(BadDataError, match=r"no valid split \(it has: train\); build it with --valid-fraction"):
        Samples.open(tmp_path / "d", "valid", sequence_length=4)


def test_a_dataset_without_manifest_is_not_opened(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5]))
    (tmp_path / "d.meta.json").unlink()
    with pytest.raises(MissingInputError, match="an unfinished build"):
        Samples.open(tmp_path / "d", sequence_length=4)


def test_files_of_two_builds_are_told_apart(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5]))
    write_dataset(tmp_path / "other", numbered_documents([5, 6]))
    (tmp_path / "d.bin").write_bytes((tmp_path / "other.bin").read_bytes())
    (tmp_path / "d.idx").write_bytes((tmp_path / "other.idx").read_bytes())
    with pytest.raises(BadDataError, match=r"holds 11 tokens in 2 documents .* says 10 in 2"):
        Samples.open(tmp_path / "d", sequence_length=4)


def test_a_sequence_length_below_one_is_refused(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5]))
    with pytest.raises(SettingError, match="sequence_length 0"):
        Samples.open(tmp_path / "d", sequence_length=0)


def test_a_negative_sample_number_is_a_bug_of_the_caller(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 5]))
    with pytest.raises(IndexError, match="start at 0, got -1"):
        Samples.open(tmp_path / "d", sequence_length=4).batch([-1])
