"""The run's folder: one live writer, and an exit status that says why."""

import errno
import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

from zhgpt.errors import MissingInputError, SettingError, StoppedBySignal, StorageError
from zhgpt.train.run_folder import (
    RunFolder,
    RunLock,
    exit_status_of,
    exit_status_of_refusal,
    read_exit_status,
    write_exit_status,
)

HOLDER = """
import sys, time
from pathlib import Path
from zhgpt.train.run_folder import RunFolder, RunLock
lock = RunLock(RunFolder(Path(sys.argv[1])))
print("locked", flush=True)
time.sleep(60)
"""


def test_a_folder_in_use_by_a_live_run_is_refused_and_free_after_its_death(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(
            StorageError, match=rf"in use by a live run \(process {holder.pid} on .*choose another run.dir"
        ):
            RunLock(RunFolder(tmp_path))
    finally:
        holder.kill()
        holder.wait(timeout=10)
    RunLock(RunFolder(tmp_path)).release()


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    RunLock(RunFolder(tmp_path)).release()
    RunLock(RunFolder(tmp_path)).release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the run's folder"):
        RunLock(RunFolder(tmp_path / "file" / "run"))


def test_a_file_system_without_locks_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse_lock)
    with pytest.raises(
        StorageError, match=f"{tmp_path}/run.lock: cannot be locked .No locks available.; put run.dir on .* flock"
    ):
        RunLock(RunFolder(tmp_path))


def test_the_exit_status_says_that_the_last_step_was_reached(tmp_path: Path) -> None:
    with exit_status_of(RunFolder(tmp_path), 0, 2, 50):
        pass
    status = read_exit_status(RunFolder(tmp_path))
    assert status is not None
    assert (status["exit_code"], status["reason"], status["world_size"]) == (0, "reached step 50", 2)


def test_the_exit_status_carries_the_code_of_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoppedBySignal), exit_status_of(RunFolder(tmp_path), 0, 2, 50):
        raise StoppedBySignal("SIGTERM after step 3")
    assert json.loads((tmp_path / "exit_status.json").read_text())["exit_code"] == 75


def test_the_first_rank_that_fails_says_why(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match="first"), exit_status_of(folder, 1, 2, 50):
        raise ValueError("first")
    with pytest.raises(RuntimeError), exit_status_of(folder, 0, 2, 50):
        raise RuntimeError("connection closed by peer")
    status = read_exit_status(folder)
    assert status is not None
    assert (status["exit_code"], status["reason"], status["rank"]) == (1, "ValueError: first", 1)


def test_a_run_that_was_killed_has_no_exit_status(tmp_path: Path) -> None:
    assert read_exit_status(RunFolder(tmp_path)) is None


def refuse(run_dir: Path | None, error: Exception) -> None:
    with pytest.raises(type(error)), exit_status_of_refusal(run_dir, 0, 2):
        raise error


def test_a_refused_start_replaces_the_status_of_the_last_attempt(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    refuse(folder.path, MissingInputError("data/zh: no such dataset"))
    write_exit_status(folder, 0, "reached step 50", 0, 2)
    refuse(folder.path, SettingError("two errors"))
    status = read_exit_status(folder)
    assert status is not None
    assert (status["exit_code"], status["reason"], status["rank"]) == (2, "two errors", 0)
    refuse(folder.path, KeyError("bug"))
    status = read_exit_status(folder)
    assert status is not None
    assert (status["exit_code"], status["reason"]) == (1, "KeyError: 'bug'")
    RunLock(folder).release()


def test_a_refused_start_leaves_a_live_runs_status_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    lock = RunLock(folder)
    refuse(tmp_path, SettingError("no"))
    assert read_exit_status(folder) is None
    lock.release()


def test_a_refused_start_keeps_what_another_rank_said_first(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def lose_the_connection() -> None:
        write_exit_status(folder, 66, "data/zh: no such dataset", 0, 8)
        raise RuntimeError("connection closed by peer")

    with pytest.raises(RuntimeError), exit_status_of_refusal(tmp_path, 4, 8):
        lose_the_connection()
    status = read_exit_status(folder)
    assert status is not None
    assert status["exit_code"] == 66


def test_a_refused_start_of_which_no_folder_is_known_writes_nothing(tmp_path: Path) -> None:
    refuse(None, SettingError("no"))
    (tmp_path / "file").write_text("")
    refuse(tmp_path / "file" / "run", SettingError("no"))


def test_a_start_that_is_not_refused_writes_nothing(tmp_path: Path) -> None:
    with exit_status_of_refusal(tmp_path, 0, 1):
        pass
    assert list(tmp_path.iterdir()) == []
