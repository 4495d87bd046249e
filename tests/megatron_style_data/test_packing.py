"""The packing's file: frozen bytes, checked when it is opened; what a packing says about itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError
from megatron_style_data.packing import check_documents, pack
from megatron_style_data.packing_file import open_packing, path_packing, write_packing
from megatron_style_data.packing_plan import plan_packing

PRINT = "ab" * 32
# Documents of 5, 3, 11 and 4 tokens at S = 8, for a dataset with fingerprint abab...
FROZEN = """
5a4847505450414b01000000000000000800000000000000747261696e000000abababababababababababababababababababababababab
abababababababab040000000000000017000000000000000100000000000000020000000000000004000000000000000000000000000000
9bd5c58156f68211d44d0736831fff56375440873d0ea16e0100000000000000020000000000000002000000000000000200000000000000
0200000000000000020000000000000002000000000000000200000000000000010000000000000000000000000000000200000000000000
04000000000000000400000000000000020000000400000006000000
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The prefix of a packing for S = 8."""
    packing = plan_packing(np.array([5, 3, 11, 4], np.int32), 8)
    write_packing(path_packing(tmp_path / "d", "train", 8), packing, "train", PRINT)
    return tmp_path / "d"


def test_the_bytes_of_the_file_are_frozen(written: Path) -> None:
    assert Path(f"{written}.train-8.packing").read_bytes().hex() == "".join(FROZEN.split())


def test_what_is_written_is_read_back(written: Path) -> None:
    packing = open_packing(written, "train", 8, PRINT, verify=True)
    assert (packing.documents, packing.tokens, packing.full_samples, packing.bins) == (4, 23, 1, 2)
    assert packing.samples == 3
    assert packing.padding == pytest.approx(1 / 24)
    assert packing.by_room.tolist() == [1, 2, 2, 2, 2, 2, 2, 2]
    assert packing.full_ends.tolist() == [1]
    assert packing.long_codes.tolist() == [4]
    assert packing.bin_starts.tolist() == [0, 2, 4]
    assert packing.piece_codes.tolist() == [0, 2, 4, 6]


def test_a_third_rest_in_a_sample_is_counted_as_out_of_its_context() -> None:
    packing = plan_packing(np.array([10, 11, 11], np.int32), 8)
    assert packing.bins == 1
    assert packing.piece_codes.tolist() == [2, 4, 1]
    assert packing.out_of_context == 1


def test_a_document_of_exactly_one_sample_is_a_full_sample() -> None:
    packing = plan_packing(np.array([8, 3], np.int32), 8)
    assert (packing.full_samples, packing.bins) == (1, 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "the file is empty"),
        (lambda data: b"PK" + data[2:], "a packing begins with b'ZHGPTPAK'"),
        (lambda data: data[:100], "its header is damaged or cut off"),
        (lambda data: data[:60] + b"x" + data[61:], "its header is damaged or cut off"),
        (lambda data: data[:-4], "bytes, but its header announces"),
        (lambda data: data[:-1] + b"x", "does not have the checksum it names"),
    ],
)
def test_a_damaged_file_is_refused(written: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    path = path_packing(written, "train", 8)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadDataError, match=words):
        open_packing(written, "train", 8, PRINT, verify=True)


def test_a_file_of_a_newer_version_is_refused(written: Path) -> None:
    import xxhash

    path = path_packing(written, "train", 8)
    data = path.read_bytes()
    header = data[:8] + b"\2" + data[9:128]
    path.write_bytes(header + xxhash.xxh3_64_digest(header) + data[136:])
    with pytest.raises(BadDataError, match="version 2 of the packing, but only 1 is known"):
        open_packing(written, "train", 8, PRINT)


def test_a_renamed_file_is_refused(written: Path) -> None:
    path_packing(written, "train", 8).rename(path_packing(written, "train", 16))
    with pytest.raises(BadDataError, match="packs train for sequence length 8, but is named for train and 16"):
        open_packing(written, "train", 16, PRINT)


def test_a_packing_of_an_earlier_build_is_refused(written: Path) -> None:
    with pytest.raises(BadDataError, match=r"built anew since; pack again: `zhgpt data pack .* --split train --force`"):
        open_packing(written, "train", 8, "cd" * 32)


def test_a_packing_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path_packing(tmp_path / "d", "train", 8).mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        open_packing(tmp_path / "d", "train", 8, PRINT)


def test_a_packing_that_exists_is_replaced_only_when_asked(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", [[1, 2, 3], [4, 5]])
    pack(tmp_path / "d", sequence_length=4)
    with pytest.raises(StorageError, match=r"d\.train-4\.packing: exists already; pass --force"):
        pack(tmp_path / "d", sequence_length=4)
    assert pack(tmp_path / "d", sequence_length=4, force=True).samples == 2


def test_what_cannot_be_packed_is_refused(write_dataset: Callable[..., Any], tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", [[1, 2, 3], [4, 5]])
    with pytest.raises(SettingError, match="sequence_length 0"):
        pack(tmp_path / "d", sequence_length=0)
    with pytest.raises(MissingInputError, match="not the prefix of a dataset"):
        pack(tmp_path / "e", sequence_length=4)
    with pytest.raises(BadDataError, match="has no valid split"):
        pack(tmp_path / "d", "valid", sequence_length=4)
    with pytest.raises(BadDataError, match=r"has 2147483648 documents, but a packing"):
        check_documents(tmp_path / "d", 1 << 31)
