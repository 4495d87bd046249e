"""Best-fit packed samples: every token a target once an epoch, short documents whole, contexts that are true."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.manifest import load_manifest
from megatron_style_data.packed_samples import PackedSamples
from megatron_style_data.packing import pack
from megatron_style_data.packing_file import write_packing
from megatron_style_data.packing_plan import plan_packing
from megatron_style_data.samples import Batch

END = 999
LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=12)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def numbered_documents(lengths: list[int]) -> list[list[int]]:
    """Documents whose tokens are all different, so that a token says where it lies."""
    ends = np.cumsum(lengths)
    return [list(range(end - length, end)) for end, length in zip(ends.tolist(), lengths, strict=True)]


@pytest.fixture
def packed(write_dataset: Callable[..., Any], tmp_path: Path) -> Callable[..., PackedSamples]:
    """Writes and packs documents of these lengths, and opens them."""

    def make(lengths: list[int], sequence_length: int, seed: int = 3, **options: Any) -> PackedSamples:
        write_dataset(tmp_path / "d", numbered_documents(lengths), end_of_text_id=END)
        pack(tmp_path / "d", sequence_length=sequence_length, force=True)
        return PackedSamples.open(tmp_path / "d", sequence_length=sequence_length, seed=seed, **options)

    return make


def whole_epoch(samples: PackedSamples, epoch: int = 0) -> Batch:
    """All samples of an epoch."""
    return samples.batch(epoch * samples.samples_per_epoch + np.arange(samples.samples_per_epoch))


@QUICK
@given(lengths=LENGTHS, sequence_length=st.integers(1, 60), epoch=st.integers(0, 10**9), shuffle=st.booleans())
def test_every_token_is_a_target_exactly_once_an_epoch(
    packed: Callable[..., PackedSamples], lengths: list[int], sequence_length: int, epoch: int, shuffle: bool
) -> None:
    samples = packed(lengths, sequence_length, shuffle=shuffle)
    batch = whole_epoch(samples, epoch)
    targets = Counter(batch.tokens[:, 1:][batch.target_mask].tolist())
    assert targets == Counter(range(sum(lengths)))
    assert samples.tokens == sum(lengths)


@QUICK
@given(lengths=LENGTHS, sequence_length=st.integers(1, 60))
def test_no_document_that_fits_is_split(
    packed: Callable[..., PackedSamples], lengths: list[int], sequence_length: int
) -> None:
    batch = whole_epoch(packed(lengths, sequence_length))
    samples_of: dict[int, set[int]] = {}
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for row, column in np.argwhere(batch.target_mask).tolist():
        samples_of.setdefault(int(owner[batch.tokens[row, column + 1]]), set()).add(row)
    for document, length in enumerate(lengths):
        assert len(samples_of[document]) == -(-length // sequence_length)


@QUICK
@given(lengths=LENGTHS, sequence_length=st.integers(1, 60))
def test_ids_and_positions_follow_the_documents(
    packed: Callable[..., PackedSamples], lengths: list[int], sequence_length: int
) -> None:
    samples = packed(lengths, sequence_length)
    batch = whole_epoch(samples)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first_tokens = set((np.cumsum(lengths) - lengths).tolist())
    out_of_context = 0
    for row in range(samples.samples_per_epoch):
        tokens = batch.tokens[row].tolist()
        for column in range(1, sequence_length + 1):
            token, before = tokens[column], tokens[column - 1]
            new = bool(batch.document_ids[row, column] != batch.document_ids[row, column - 1])
            assert batch.position_ids[row, column] == (0 if new else batch.position_ids[row, column - 1] + 1)
            if not batch.target_mask[row, column - 1]:
                assert token == END
                continue
            # A target goes on from the token before it, or begins anew: a document, or a rest out of its context.
            assert new == (token in first_tokens or before != token - 1)
            if token in first_tokens:
                assert before == END or before + 1 in first_tokens or before == sum(lengths) - 1
            elif new:
                out_of_context += 1
                assert owner[before] != owner[token]
    assert (batch.document_ids[:, 0] == 0).all()
    assert (batch.position_ids[:, 0] == 0).all()
    packing = plan_packing(np.array(lengths, np.int32), sequence_length)
    assert out_of_context == packing.out_of_context


@QUICK
@given(lengths=LENGTHS, sequence_length=st.integers(1, 60), first=st.integers(0, 200), count=st.integers(0, 80))
def test_targets_in_counts_the_unmasked_targets(
    packed: Callable[..., PackedSamples], lengths: list[int], sequence_length: int, first: int, count: int
) -> None:
    samples = packed(lengths, sequence_length)
    assert samples.targets_in(first, count) == int(samples.batch(np.arange(first, first + count)).target_mask.sum())


def test_samples_do_not_depend_on_how_they_are_asked_for(packed: Callable[..., PackedSamples]) -> None:
    samples = packed([13, 70, 7, 41, 5, 22, 9, 17, 16, 33] * 5, 16)
    wanted = np.arange(3 * samples.samples_per_epoch)
    together = samples.batch(wanted)
    backwards = samples.batch(wanted[::-1])
    assert np.array_equal(backwards.tokens[::-1], together.tokens)
    for number in wanted[::7].tolist():
        alone = samples.batch([number])
        assert np.array_equal(alone.tokens[0], together.tokens[number])
        assert np.array_equal(alone.document_ids[0], together.document_ids[number])
        assert np.array_equal(alone.target_mask[0], together.target_mask[number])


def test_the_order_changes_from_epoch_to_epoch_and_with_the_seed(packed: Callable[..., PackedSamples]) -> None:
    lengths = list(range(5, 30))
    orders = [whole_epoch(packed(lengths, 32), epoch).tokens.tolist() for epoch in range(3)]
    orders.append(whole_epoch(packed(lengths, 32, seed=4)).tokens.tolist())
    assert len({str(order) for order in orders}) == 4
    assert len({str(sorted(order)) for order in orders}) == 1


def test_the_example_of_the_documentation(packed: Callable[..., PackedSamples]) -> None:
    """Documents of 5, 3, 11 and 4 tokens at S = 8; docs/data_format.md shows it."""
    batch = whole_epoch(packed([5, 3, 11, 4], 8, shuffle=False))
    assert batch.tokens.tolist() == [
        [END, 8, 9, 10, 11, 12, 13, 14, 15],
        [END, 0, 1, 2, 3, 4, 5, 6, 7],
        [15, 16, 17, 18, 19, 20, 21, 22, END],
    ]
    assert batch.document_ids.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 2, 2, 2],
        [0, 0, 0, 0, 1, 1, 1, 1, 2],
    ]
    assert batch.position_ids.tolist() == [
        [0, 0, 1, 2, 3, 4, 5, 6, 7],
        [0, 0, 1, 2, 3, 4, 0, 1, 2],
        [0, 1, 2, 3, 0, 1, 2, 3, 0],
    ]
    assert batch.target_mask.sum(axis=1).tolist() == [8, 8, 7]


def test_the_order_of_a_run_is_frozen(packed: Callable[..., PackedSamples]) -> None:
    samples = packed([5, 3, 11, 4, 30, 9, 9, 2], 8, seed=1)
    first_targets = samples.batch(np.arange(2 * samples.samples_per_epoch)).tokens[:, 1].tolist()
    assert first_targets == [8, 23, 62, 47, 39, 16, 70, 54, 0, 31, 8, 70, 39, 54, 31, 47, 62, 23, 0, 16]


def test_a_rest_that_ends_its_sample_is_the_head_of_its_document(packed: Callable[..., PackedSamples]) -> None:
    # Rests of 3 and 4 tokens share a bin: the end of the second document, then the head of the first one.
    batch = whole_epoch(packed([11, 12], 8, shuffle=False))
    assert batch.tokens.tolist() == [
        [2, 3, 4, 5, 6, 7, 8, 9, 10],
        [END, 11, 12, 13, 14, 15, 16, 17, 18],
        [18, 19, 20, 21, 22, 0, 1, 2, END],
    ]


def test_a_split_is_packed_for_itself(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    splits = {"train": 2, "valid": 2}
    write_dataset(tmp_path / "d", numbered_documents([5, 9, 4, 3]), splits=splits, end_of_text_id=END)
    pack(tmp_path / "d", "valid", sequence_length=8)
    samples = PackedSamples.open(tmp_path / "d", "valid", sequence_length=8, shuffle=False)
    assert samples.tokens == 7
    assert samples.batch([0]).tokens.tolist() == [[END, 14, 15, 16, 17, 18, 19, 20, END]]


def test_a_split_that_is_not_packed_says_how(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 9]))
    pack(tmp_path / "d", sequence_length=8)
    with pytest.raises(MissingInputError, match=r"train-16\.packing: no such file; .* `zhgpt data pack .*d --sequence"):
        PackedSamples.open(tmp_path / "d", sequence_length=16)


def test_a_packing_of_other_documents_is_refused(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", numbered_documents([5, 9]))
    fingerprint = load_manifest(tmp_path / "d").fingerprint
    packing = plan_packing(np.array([5, 8], np.int32), 8)
    write_packing(tmp_path / "d.train-8.packing", packing, "train", fingerprint)
    with pytest.raises(BadDataError, match="packs 13 tokens in 2 documents, but the train split has 14 in 2"):
        PackedSamples.open(tmp_path / "d", sequence_length=8)


def test_opening_writes_nothing(packed: Callable[..., PackedSamples], tmp_path: Path) -> None:
    packed([5, 9, 30], 8)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    PackedSamples.open(tmp_path / "d", sequence_length=8).batch([0, 1])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
