"""Files and folders appear whole or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest

from megatron_style_data.atomic import (
    atomic_file,
    atomic_folder,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
)
from megatron_style_data.errors import StorageError


def test_bytes_text_and_json_are_written_as_given(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "a", b"\x00\xff")
    atomic_write_text(tmp_path / "b", "村\r\n民")
    atomic_write_json(tmp_path / "c", {"名": [1, None]})
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "村\r\n民".encode()
    assert json.loads((tmp_path / "c").read_text("utf-8")) == {"名": [1, None]}
    assert "名" in (tmp_path / "c").read_text("utf-8")


def test_a_missing_parent_folder_is_made(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "new" / "deep" / "a", b"1")
    assert (tmp_path / "new" / "deep" / "a").read_bytes() == b"1"


def test_json_refuses_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(tmp_path / "a", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def write_and_fail() -> None:
        with atomic_file(target) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_the_old_file_is_there_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with atomic_file(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


def test_a_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        atomic_write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_place_that_cannot_be_written_is_a_storage_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/a: cannot be written: "):
        atomic_write_bytes(tmp_path / "file" / "a", b"")
    with pytest.raises(StorageError, match=r"cannot be written: Is a directory"):
        atomic_write_bytes(tmp_path, b"")


def test_a_full_disk_inside_the_block_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a: cannot be written: No space left"), atomic_file(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_os_error_inside_the_block_is_not_blamed_on_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "b"):
        (tmp_path / "other").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"1")
        assert not target.exists()
    assert (target / "sub" / "a").read_bytes() == b"1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "a").write_bytes(b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_bytes(b"")
    with pytest.raises(StorageError, match=r"out: exists already; choose another output"), atomic_folder(target):
        pass
    with atomic_folder(target, replace=True) as folder:
        (folder / "new").write_bytes(b"")
        assert (target / "old").exists()
    assert [entry.name for entry in target.iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_someone_else_made_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def write_late() -> None:
        with atomic_folder(target) as folder:
            (folder / "a").write_bytes(b"1")
            target.mkdir()
            (target / "somebody_elses").write_bytes(b"2")

    with pytest.raises(StorageError, match="out: cannot be written: "):
        write_late()
    assert (target / "somebody_elses").read_bytes() == b"2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
