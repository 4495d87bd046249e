"""Megatron's order: its three indices number by number, and the samples they lead to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import SettingError
from megatron_style_data.indexed_dataset import HEADER, MAGIC, IndexedDataset, index_chunks, path_bin, path_idx
from megatron_style_data.megatron_order import MegatronSamples, megatron_indices

# Made by GPTDataset of megatron-core 0.16.1 on datasets whose tokens are 0, 1, 2 ... in the order of the file.
FROZEN = json.loads((Path(__file__).parents[1] / "golden" / "megatron_indices.json").read_text())


@pytest.mark.parametrize("case", FROZEN, ids=[case["name"] for case in FROZEN])
def test_indices_and_samples_are_those_of_megatron(tmp_path: Path, case: dict[str, Any]) -> None:
    prefix, lengths = tmp_path / "d", np.array(case["lengths"], np.int32)
    path_bin(prefix).write_bytes(np.arange(lengths.sum(), dtype=np.uint16).tobytes())
    path_idx(prefix).write_bytes(b"".join(index_chunks("uint16", lengths, np.arange(len(lengths) + 1))))
    samples = MegatronSamples(
        IndexedDataset.open(prefix),
        first_document=case["first"],
        documents=case["documents"],
        sequence_length=case["sequence_length"],
        seed=case["seed"],
        total_samples=case["total_samples"],
    )
    indices = samples.indices
    for array, name, dtype in zip(
        (indices.document_index, indices.sample_index, indices.shuffle_index),
        ("document_index", "sample_index", "shuffle_index"),
        case["dtypes"],
        strict=True,
    ):
        assert array.dtype == dtype
        assert array.tolist() == case[name]
    assert samples.batch(np.arange(len(case["tokens"]))).tokens.tolist() == case["tokens"]


def plain_sample_index(lengths: list[int], order: list[int], samples: int, sequence_length: int) -> list[list[int]]:
    """Token by token: the document and the offset of every S-th token."""
    tokens = [[place, offset] for place, document in enumerate(order) for offset in range(lengths[document])]
    return [[0, 0]] + [tokens[number * sequence_length] for number in range(1, samples + 1)]


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(lambda lengths: sum(lengths) > 1),
    sequence_length=st.integers(1, 20),
    total_samples=st.one_of(st.none(), st.integers(1, 60)),
    seed=st.integers(0, 2**32 - 1),
)
def test_sample_index_equals_a_plain_walk_and_every_sample_is_read_once(
    lengths: list[int], sequence_length: int, total_samples: int | None, seed: int
) -> None:
    indices = megatron_indices(
        np.array(lengths, np.int32),
        0,
        len(lengths),
        total_samples=total_samples,
        sequence_length=sequence_length,
        seed=seed,
    )
    samples = len(indices.shuffle_index)
    epochs = len(indices.document_index) // len(lengths)
    assert samples >= (total_samples or 0)
    assert np.array_equal(np.bincount(indices.document_index, minlength=len(lengths)), [epochs] * len(lengths))
    assert np.array_equal(np.sort(indices.shuffle_index), np.arange(samples))
    plain = plain_sample_index(lengths, indices.document_index.tolist(), samples, sequence_length)
    assert indices.sample_index.tolist() == plain


def test_a_final_epoch_of_which_little_is_used_is_shuffled_apart() -> None:
    lengths = np.full(10, 10, np.int32)
    little, much = (
        megatron_indices(lengths, 0, 10, total_samples=samples, sequence_length=5, seed=1) for samples in (25, 38)
    )
    assert sorted(little.document_index[10:].tolist()) == list(range(10))
    assert sorted(little.shuffle_index[:19].tolist()) == list(range(19))
    assert sorted(much.document_index[10:].tolist()) != list(range(10))
    assert sorted(much.shuffle_index[:19].tolist()) != list(range(19))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8), sequence_length=st.integers(1, 15))
def test_documents_are_numbered_and_positions_restart(
    write_dataset: Callable[..., Any], tmp_path: Path, lengths: list[int], sequence_length: int
) -> None:
    documents = [[number] * length for number, length in enumerate(lengths, start=1)]
    write_dataset(tmp_path / "d", documents)
    samples = MegatronSamples.open(tmp_path / "d", sequence_length=sequence_length, seed=2, total_samples=30)
    batch = samples.batch(np.arange(30))
    assert batch.target_mask.all()
    changes = np.diff(batch.document_ids, axis=1)
    assert set(np.unique(changes).tolist()) <= {0, 1}
    assert np.array_equal(batch.position_ids[:, 1:] == 0, changes == 1)
    assert (changes[np.diff(batch.tokens, axis=1) != 0] == 1).all()


def test_a_sequence_of_a_file_made_elsewhere_counts_as_a_document(tmp_path: Path) -> None:
    lengths = np.array([2, 3, 4], np.int32)
    path_bin(tmp_path / "d").write_bytes(np.arange(9, dtype=np.uint16).tobytes())
    path_idx(tmp_path / "d").write_bytes(
        HEADER.pack(MAGIC, 1, 8, 3, 3)
        + lengths.tobytes()
        + np.array([0, 4, 10], np.int64).tobytes()
        + np.array([0, 2, 3], np.int64).tobytes()
    )
    samples = MegatronSamples(
        IndexedDataset.open(tmp_path / "d"),
        first_document=0,
        documents=2,
        sequence_length=2,
        seed=0,
        total_samples=None,
    )
    assert sorted(samples.indices.document_index.tolist()) == [0, 1, 2]


def test_opening_writes_nothing_and_counts_all_targets(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", [[1, 2, 3, 4, 5], [6, 7, 8]])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    samples = MegatronSamples.open(tmp_path / "d", sequence_length=3, seed=1, total_samples=5)
    assert samples.targets_in(1, 4) == int(samples.batch([1, 2, 3, 4]).target_mask.sum()) == 12
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_sample_beyond_the_run_is_refused(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", [[1, 2, 3, 4, 5], [6, 7, 8]])
    samples = MegatronSamples.open(tmp_path / "d", sequence_length=3, seed=1, total_samples=2)
    with pytest.raises(SettingError, match=r"sample 2 is asked for.* a run of 2 samples"):
        samples.batch([0, 2])


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"total_samples": 0}, "at least one sample"), ({"seed": -1}, "seeds from 0 to 4294967295")],
)
def test_numbers_megatron_cannot_take_are_refused(
    write_dataset: Callable[..., Any], tmp_path: Path, asked: dict[str, int], words: str
) -> None:
    write_dataset(tmp_path / "d", [[1, 2, 3, 4, 5]])
    with pytest.raises(SettingError, match=words):
        MegatronSamples.open(tmp_path / "d", **{"sequence_length": 2, "seed": 1, "total_samples": 2, **asked})
