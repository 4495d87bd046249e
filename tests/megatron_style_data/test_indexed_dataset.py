"""MMIDIDX files: the frozen bytes, reading them in place, and what is said about damaged ones."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError
from megatron_style_data.indexed_dataset import HEADER, IndexedDataset, choose_dtype, index_chunks, path_bin, path_idx

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_bytes(name: str) -> bytes:
    lines = (GOLDEN / name).read_text("utf-8").splitlines()
    return bytes.fromhex(" ".join(line.partition("#")[0] for line in lines))


def write(prefix: Path, index: bytes, tokens: bytes) -> Path:
    path_idx(prefix).write_bytes(index)
    path_bin(prefix).write_bytes(tokens)
    return prefix


@pytest.fixture
def three_documents(tmp_path: Path) -> Path:
    tokens = np.array([5, 6, 7, 0, 8, 0, 300, 301, 302, 65, 0], "<u2").tobytes()
    return write(tmp_path / "three", golden_bytes("mmididx_uint16.hex"), tokens)


def test_the_writer_writes_the_frozen_bytes() -> None:
    one_each = index_chunks("uint16", np.array([4, 2, 5], np.int32), np.arange(4))
    several = index_chunks("int32", np.array([2, 3, 2], np.int32), np.array([0, 2, 3]))
    assert b"".join(one_each) == golden_bytes("mmididx_uint16.hex")
    assert b"".join(several) == golden_bytes("mmididx_int32.hex")


def test_the_reader_reads_the_frozen_bytes(three_documents: Path) -> None:
    dataset = IndexedDataset.open(three_documents)
    assert (len(dataset), dataset.dtype, len(dataset.tokens)) == (3, "uint16", 11)
    assert [dataset.document(number).tolist() for number in range(3)] == [[5, 6, 7, 0], [8, 0], [300, 301, 302, 65, 0]]
    assert dataset.sequence_lengths.tolist() == [4, 2, 5]
    assert dataset.sequence_pointers.tolist() == [0, 8, 12]
    assert dataset.document_indices.tolist() == [0, 1, 2, 3]


def test_a_document_of_several_sequences_is_read_as_one(tmp_path: Path) -> None:
    tokens = np.array([1, 2, 3, 4, 5, 7, 70000], "<i4").tobytes()
    dataset = IndexedDataset.open(write(tmp_path / "d", golden_bytes("mmididx_int32.hex"), tokens))
    assert [dataset.document(number).tolist() for number in range(len(dataset))] == [[1, 2, 3, 4, 5], [7, 70000]]


def test_the_map_cannot_be_written_to(three_documents: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        IndexedDataset.open(three_documents).tokens[0] = 1


def test_a_document_that_is_not_there_is_a_bug_of_the_caller(three_documents: Path) -> None:
    with pytest.raises(IndexError, match="document 3 of 3"):
        IndexedDataset.open(three_documents).document(3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(documents=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=8), data=st.data())
def test_document_starts_are_those_of_a_plain_loop(
    tmp_path: Path, documents: list[list[int]], data: st.DataObject
) -> None:
    """Documents are lists of sequence lengths here, empty ones included."""
    lengths = [length for document in documents for length in document]
    first_sequences = np.cumsum([0] + [len(document) for document in documents])
    index = b"".join(index_chunks("uint16", np.array(lengths, np.int32), first_sequences))
    dataset = IndexedDataset.open(write(tmp_path / "d", index, b"\0\0" * sum(lengths)))
    starts = [sum(map(sum, documents[:number])) for number in range(len(documents) + 1)]
    assert dataset.document_starts(0, len(documents) + 1).tolist() == starts
    token = data.draw(st.integers(0, sum(lengths)))
    assert dataset.first_document_from(token) == sum(start < token for start in starts[:-1])
    ends = data.draw(st.lists(st.integers(token, sum(lengths)), max_size=3))
    firsts, afters = dataset.documents_within(np.full(len(ends), token), np.array(ends, np.int64))
    assert firsts.tolist() == [dataset.first_document_from(token)] * len(ends)
    assert afters.tolist() == [sum(start < end for start in starts[:-1]) for end in ends]


def test_more_than_two_to_the_31_tokens_are_read(tmp_path: Path) -> None:
    lengths = np.array([2**31 - 1, 2**31 - 1, 3], np.int32)
    prefix = tmp_path / "large"
    path_idx(prefix).write_bytes(b"".join(index_chunks("uint16", lengths, np.arange(4))))
    with open(path_bin(prefix), "wb") as file:  # holes: takes no room on the disk
        file.seek(2 * int(lengths.sum(dtype=np.int64)) - 2)
        file.write(b"\x07\x00")
    dataset = IndexedDataset.open(prefix)
    assert len(dataset.tokens) == 2**32 + 1
    assert dataset.document(2).tolist() == [0, 0, 7]
    assert dataset.first_document_from(2**32 - 5) == 2


def test_a_dataset_without_documents_can_be_read(tmp_path: Path) -> None:
    index = b"".join(index_chunks("uint16", np.empty(0, np.int32), np.zeros(1, np.int64)))
    dataset = IndexedDataset.open(write(tmp_path / "empty", index, b""))
    assert (len(dataset), len(dataset.tokens)) == (0, 0)


@pytest.mark.parametrize(
    ("vocab_size", "requested", "expected"),
    [
        (65499, "auto", "uint16"),
        (65500, "auto", "int32"),
        (65536, "uint16", "uint16"),
        (300, "int32", "int32"),
    ],
)
def test_the_token_type_follows_megatrons_rule_unless_asked_for(vocab_size: int, requested: Any, expected: str) -> None:
    assert choose_dtype(vocab_size, requested) == expected


def test_uint16_is_refused_where_ids_do_not_fit() -> None:
    with pytest.raises(SettingError, match=r"uint16 holds ids up to 65535, .* 65537 entries \(largest id 65536\)"):
        choose_dtype(65537, "uint16")


def test_a_missing_file_is_named(three_documents: Path) -> None:
    path_bin(three_documents).unlink()
    with pytest.raises(MissingInputError, match=r"three\.bin: no such file\. A dataset is named by its prefix"):
        IndexedDataset.open(three_documents)


def test_a_file_that_cannot_be_read_is_named(three_documents: Path) -> None:
    path_idx(three_documents).unlink()
    path_idx(three_documents).mkdir()
    with pytest.raises(StorageError, match=r"three\.idx: cannot be read: Is a directory"):
        IndexedDataset.open(three_documents)


def test_another_kind_of_file_is_refused(three_documents: Path) -> None:
    path_idx(three_documents).write_bytes(b"TNTIDX\0\0" + b"\0" * 40)
    with pytest.raises(BadDataError, match=r"three\.idx: begins with .*TNTIDX.* this is not the \.idx file"):
        IndexedDataset.open(three_documents)


def test_an_empty_index_file_is_refused(three_documents: Path) -> None:
    path_idx(three_documents).write_bytes(b"")
    with pytest.raises(BadDataError, match=r"three\.idx: the file is empty"):
        IndexedDataset.open(three_documents)


def edited(index: bytes, at: int, field: str, value: int) -> bytes:
    changed = bytearray(index)
    struct.pack_into(field, changed, at, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda index: edited(index, 9, "<Q", 2), "index version 2, but only version 1 is known"),
        (lambda index: edited(index, 17, "<B", 7), r"token type code 7 at byte 17; known codes .* 8 \(uint16\)"),
        (lambda index: index[:20], "20 bytes, but the header alone has 34; the file is truncated"),
        (lambda index: index[:-1], "101 bytes, but its header announces 3 sequences and 4 document entries, which make 102; "
         "the file is truncated"),
        (lambda index: index + b"\0", "which make 102; the file is damaged"),
        (lambda index: index + b"\0\0\0", r"a multimodal index \(a mode byte for each of 3 sequences"),
        (lambda index: edited(index, 18, "<Q", 2**62), "the file is truncated"),
        (lambda index: edited(index, 70, "<Q", 1), "the document index runs from 1 to 3, expected 0 to 3"),
        (lambda index: edited(index, 94, "<Q", 4), "the document index runs from 0 to 4, expected 0 to 3"),
    ],
)  # fmt: skip
def test_a_damaged_index_is_refused_before_anything_is_read_through_it(
    three_documents: Path, change: Callable[[bytes], bytes], sentence: str
) -> None:
    path_idx(three_documents).write_bytes(change(path_idx(three_documents).read_bytes()))
    with pytest.raises(BadDataError, match=rf"three\.idx: .*{sentence}"):
        IndexedDataset.open(three_documents)


def test_an_index_without_document_entries_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d", HEADER.pack(b"MMIDIDX\0\0", 1, 8, 0, 0), b"")
    with pytest.raises(BadDataError, match="the document index is empty"):
        IndexedDataset.open(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tokens: tokens[:-2], "20 bytes, but three.idx says its last sequence ends at byte 22; the file is truncated"),
        (lambda tokens: tokens[:-1], "21 bytes are not a whole number of uint16 tokens; the file is truncated"),
        (lambda tokens: tokens + b"\0\0", "24 bytes, but .* at byte 22; the file is longer than its index says"),
        (lambda tokens: b"", "0 bytes, but .* the file is truncated"),
    ],
)  # fmt: skip
def test_a_token_file_of_the_wrong_size_is_refused(
    three_documents: Path, change: Callable[[bytes], bytes], sentence: str
) -> None:
    path_bin(three_documents).write_bytes(change(path_bin(three_documents).read_bytes()))
    with pytest.raises(BadDataError, match=rf"three\.bin: {sentence}"):
        IndexedDataset.open(three_documents)
