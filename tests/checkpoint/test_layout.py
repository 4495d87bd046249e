"""What counts as a complete checkpoint, and how damage is found."""

import json
from pathlib import Path

import pytest
from written_checkpoint import write_checkpoint

from zhgpt.checkpoint.layout import (
    COMPLETE,
    FORMAT,
    MANIFEST,
    find_checkpoint,
    list_complete,
    read_manifest,
    step_folder_name,
    verify_checkpoint,
)
from zhgpt.checkpoint.load import choose_checkpoint
from zhgpt.checkpoint.save import delete_old, prepare_folder
from zhgpt.errors import BadDataError, MissingInputError


def test_only_finished_checkpoints_are_listed_in_order(tmp_path: Path) -> None:
    for step in (300, 100, 200):
        write_checkpoint(tmp_path, step)
    (tmp_path / step_folder_name(200) / COMPLETE).unlink()
    write_checkpoint(tmp_path, 400).rename(tmp_path / "step-00000400.saving")
    assert [folder.step for folder in list_complete(tmp_path)] == [100, 300]


def test_the_newest_complete_checkpoint_of_a_run_is_found(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoints", 100)
    newest = write_checkpoint(tmp_path / "checkpoints", 200)
    assert find_checkpoint(tmp_path).path == newest
    assert find_checkpoint(tmp_path / "checkpoints").path == newest
    assert find_checkpoint(newest.with_name(step_folder_name(100))).step == 100


def test_a_path_that_does_not_exist_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such checkpoint or run folder"):
        find_checkpoint(tmp_path / "nothing")


def test_a_run_without_a_complete_checkpoint_is_refused(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path / "checkpoints", 100) / COMPLETE).unlink()
    with pytest.raises(BadDataError, match="no complete checkpoint"):
        find_checkpoint(tmp_path)


def test_an_unfinished_step_folder_named_by_hand_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / COMPLETE).unlink()
    with pytest.raises(BadDataError, match="never finished"):
        find_checkpoint(folder)


def test_resume_auto_without_a_checkpoint_starts_anew_and_never_ignores_one(tmp_path: Path) -> None:
    assert choose_checkpoint(tmp_path, "auto") is None
    write_checkpoint(tmp_path, 100)
    assert choose_checkpoint(tmp_path, "never") is None
    chosen = choose_checkpoint(tmp_path, "auto")
    assert chosen is not None
    assert chosen.step == 100


def test_an_intact_checkpoint_verifies(tmp_path: Path) -> None:
    verify_checkpoint(write_checkpoint(tmp_path, 100))


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / "engine" / "shard.pt").write_bytes(b"wfights")
    with pytest.raises(BadDataError, match="its content changed after it was saved"):
        verify_checkpoint(folder)


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / "engine" / "shard.pt").write_bytes(b"weigh")
    with pytest.raises(BadDataError, match="5 bytes, expected 7"):
        verify_checkpoint(folder)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / "engine" / "shard.pt").unlink()
    with pytest.raises(BadDataError, match="missing"):
        verify_checkpoint(folder)


def test_a_changed_manifest_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text() + " ")
    with pytest.raises(BadDataError, match="its hash is not the one in COMPLETE"):
        read_manifest(folder)


def test_a_manifest_that_is_no_json_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(BadDataError, match="unreadable"):
        read_manifest(folder)


def test_a_manifest_that_is_gone_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / MANIFEST).unlink()
    with pytest.raises(BadDataError, match=r"unreadable manifest\.json or COMPLETE .*No such file.*; use an older"):
        read_manifest(folder)


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / MANIFEST).write_text(json.dumps({"files": {}}))
    with pytest.raises(BadDataError, match="format None version None, expected 'zhgpt-checkpoint' version 1"):
        read_manifest(folder)


def test_many_damaged_files_are_counted(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100, others=dict.fromkeys("abcd", b"x"))
    for name in "abcd":
        (folder / name).unlink()
    with pytest.raises(BadDataError, match=r"a: missing; .*b: missing; .*c: missing and 1 more; resume from an older"):
        verify_checkpoint(folder)


def test_a_checkpoint_of_another_format_version_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 100)
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "version": 99, "files": {}}))
    with pytest.raises(BadDataError, match="version 99"):
        read_manifest(folder)


def test_the_last_k_checkpoints_are_kept_and_half_deleted_ones_swept(tmp_path: Path) -> None:
    for step in (100, 200, 300, 400):
        write_checkpoint(tmp_path, step)
    (tmp_path / "step-00000050.deleting").mkdir()
    delete_old(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000300", "step-00000400"]


def test_a_start_clears_half_written_checkpoints(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 100)
    write_checkpoint(tmp_path, 200).rename(tmp_path / "step-00000200.saving")
    assert prepare_folder(tmp_path, 100, 3) == []
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000100"]


def test_going_back_sets_later_checkpoints_aside_and_keeps_the_one_that_was_loaded(tmp_path: Path) -> None:
    for step in (100, 200, 300, 400):
        write_checkpoint(tmp_path, step)
    assert prepare_folder(tmp_path, 200, 1) == ["step-00000300", "step-00000400"]
    assert [folder.step for folder in list_complete(tmp_path)] == [200]
    assert sorted(path.name for path in (tmp_path / "set_aside").iterdir()) == ["step-00000300", "step-00000400"]
