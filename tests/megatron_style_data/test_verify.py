"""Verification: a whole dataset passes, and each kind of damage is told by its file and place."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.errors import BadDataError, MissingInputError
from megatron_style_data.indexed_dataset import path_bin, path_idx
from megatron_style_data.manifest import Manifest, manifest_bytes, path_manifest
from megatron_style_data.verify import verify

# 400 documents of 400 tokens: the .bin file has 5 blocks of 64 KiB, the last one short.
DOCUMENTS = [[1 + number % 900] * 399 + [0] for number in range(400)]


@pytest.fixture
def manifest(write_dataset: Callable[..., Any], tmp_path: Path) -> Manifest:
    written: Manifest = write_dataset(tmp_path / "d", DOCUMENTS, splits={"train": 390, "valid": 10})
    return written


@pytest.fixture
def prefix(manifest: Manifest, tmp_path: Path) -> Path:
    return tmp_path / "d"


def flip_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def test_a_whole_dataset_passes_and_progress_reaches_the_end(prefix: Path, manifest: Manifest) -> None:
    seen: list[tuple[str, int, int]] = []
    assert verify(prefix, lambda *state: seen.append(state)) == manifest
    assert seen[-1] == ("d.bin", 320_000, 320_000)


def test_a_truncated_token_file_is_called_truncated(prefix: Path) -> None:
    path_bin(prefix).write_bytes(path_bin(prefix).read_bytes()[:-100])
    with pytest.raises(
        BadDataError, match=r"d\.bin: truncated: 319900 bytes, expected 320000; it ends 100 bytes early"
    ):
        verify(prefix)


def test_a_truncated_index_is_called_truncated(prefix: Path) -> None:
    path_idx(prefix).write_bytes(path_idx(prefix).read_bytes()[:-1])
    with pytest.raises(BadDataError, match=r"d\.idx: truncated: 8041 bytes, expected 8042"):
        verify(prefix)


def test_a_file_with_something_appended_is_called_too_long(prefix: Path) -> None:
    path_bin(prefix).write_bytes(path_bin(prefix).read_bytes() + b"\0\0")
    with pytest.raises(BadDataError, match=r"d\.bin: too long: 320002 bytes, expected 320000"):
        verify(prefix)


def test_a_flipped_bit_is_called_that_with_its_block_and_documents(prefix: Path) -> None:
    flip_bit(path_bin(prefix), 65536 + 800)
    with pytest.raises(BadDataError) as error:
        verify(prefix)
    sentence = str(error.value)
    assert "d.bin: the size is right but the content is not" in sentence
    assert (
        "checksums differ in bytes 65536-131071 (in the first of these: documents 81 to 163); bits flipped" in sentence
    )


def test_every_damaged_block_is_counted_and_five_are_named(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "large", [[5] * 99_999 + [0] for _ in range(4)])
    for block in range(8):
        flip_bit(path_bin(tmp_path / "large"), block * 65536 + 7)
    with pytest.raises(BadDataError, match=r"bytes 0-65535, .*, 262144-327679 and 3 more ranges \(.*: document 0\);"):
        verify(tmp_path / "large")


def test_a_flip_in_the_last_block_names_the_end_of_the_file(prefix: Path) -> None:
    flip_bit(path_bin(prefix), 319_999)
    with pytest.raises(BadDataError, match=r"bytes 262144-319999 \(in the first of these: documents 327 to 399\)"):
        verify(prefix)


def test_a_flipped_bit_in_the_index_is_found(prefix: Path) -> None:
    flip_bit(path_idx(prefix), 5000)
    with pytest.raises(BadDataError, match=r"d\.idx: the size is right but .* bytes 0-8041; bits flipped"):
        verify(prefix)


def test_a_flipped_bit_in_the_manifest_is_found(prefix: Path) -> None:
    path_manifest(prefix).write_text(path_manifest(prefix).read_text().replace('"tokens": 160000', '"tokens": 160001'))
    with pytest.raises(BadDataError, match=r"d\.meta\.json: its content does not have the SHA-256"):
        verify(prefix)


@pytest.mark.parametrize("path", [path_bin, path_idx])
def test_a_missing_file_is_named(prefix: Path, path: Callable[[Path], Path]) -> None:
    path(prefix).unlink()
    with pytest.raises(MissingInputError, match=rf"{path(prefix).name}: no such file, though the manifest is there"):
        verify(prefix)


# What follows needs checksums that fit the damage: a dataset wrong from its build on.


def test_an_id_outside_the_vocabulary_is_found(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "e", [[1, 2, 0], [3, 1000, 0]], vocab_size=1000)
    with pytest.raises(BadDataError, match=r"e\.bin: token 4 has id 1000, but the tokenizer's vocabulary has 1000"):
        verify(tmp_path / "e")


def test_a_document_without_end_of_text_is_found(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "e", [[1, 2, 0], [3, 4], [5]])
    with pytest.raises(
        BadDataError, match=r"2 documents do not end with the end-of-text token 0 \(first: document 1\)"
    ):
        verify(tmp_path / "e")


def test_a_document_without_end_of_text_is_accepted_where_the_manifest_says_so(
    write_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    written = write_dataset(tmp_path / "e", [[1, 2, 0], [3, 4]])
    path_manifest(tmp_path / "e").write_bytes(manifest_bytes(replace(written, documents_without_end_of_text=1)))
    verify(tmp_path / "e")


def test_counts_that_differ_from_the_manifest_are_found(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    written = write_dataset(tmp_path / "e", [[1, 2, 0], [3, 0]])
    path_manifest(tmp_path / "e").write_bytes(manifest_bytes(replace(written, sequences=3)))
    with pytest.raises(BadDataError, match=r"e\.idx: sequences 2, but the manifest says 3"):
        verify(tmp_path / "e")


def test_a_split_inside_a_document_is_found(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    written: Manifest = write_dataset(tmp_path / "e", [[1, 2, 0], [3, 0]], splits={"train": 1, "valid": 1})
    train, valid = written.splits["train"], written.splits["valid"]
    moved = {"train": replace(train, tokens=2), "valid": replace(valid, first_token=2, tokens=3)}
    path_manifest(tmp_path / "e").write_bytes(manifest_bytes(replace(written, splits=moved)))
    with pytest.raises(BadDataError, match=r"e\.idx: split valid starts at token 3, but the manifest says 2"):
        verify(tmp_path / "e")


def rewrite_index(write_dataset: Callable[..., Any], prefix: Path, at: int, values: Sequence[int]) -> None:
    """Writes a dataset of three documents whose index is changed before its checksums are taken."""
    from megatron_style_data.digests import BlockDigest

    written: Manifest = write_dataset(prefix, [[1, 2, 0], [3, 0], [4, 0]])
    index = bytearray(path_idx(prefix).read_bytes())
    struct.pack_into(f"<{len(values)}q", index, at, *values)
    path_idx(prefix).write_bytes(index)
    digest = BlockDigest(written.checksums.block_bytes)
    digest.update(bytes(index))
    checksums = replace(written.checksums, idx=digest.whole, idx_blocks=digest.blocks)
    path_manifest(prefix).write_bytes(manifest_bytes(replace(written, checksums=checksums)))


def test_sequences_with_a_gap_are_found(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    rewrite_index(write_dataset, tmp_path / "e", 34 + 3 * 4 + 8, [8])
    with pytest.raises(
        BadDataError, match=r"sequence 1 of 2 tokens starts at byte 8 of the \.bin file, expected byte 6"
    ):
        verify(tmp_path / "e")


def test_documents_out_of_order_are_found(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    rewrite_index(write_dataset, tmp_path / "e", 34 + 3 * 12 + 8, [2, 1])
    with pytest.raises(BadDataError, match=r"document 1 ends before it starts \(document index not in order\)"):
        verify(tmp_path / "e")
