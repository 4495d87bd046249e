"""DeepSpeed's C++ ops: off unless asked for; then a private folder, one builder at a time, and no lock of the dead."""

import fcntl
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import deepspeed
import pytest

from zhgpt.distributed import op_builds
from zhgpt.distributed.op_builds import building, settle_shm_op
from zhgpt.errors import StorageError

HOLDER = """
import fcntl, sys, time
handle = open(sys.argv[1], "a")
fcntl.flock(handle, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def held(path: Path, seconds: float) -> Iterator[None]:
    """Another process that builds."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield
    finally:
        holder.kill()
        holder.wait(timeout=10)


def can_be_locked(path: Path) -> bool:
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this environment's builds, in a cache of its own; the variable that names it is put back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/shared/by/all")
    with building(instead="-"):
        pass
    return Path(os.environ["TORCH_EXTENSIONS_DIR"])


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where DeepSpeed's builder was called, with TORCH_EXTENSIONS_DIR as it was then."""
    calls: list[str] = []
    builder = importlib.import_module(
        "deepspeed.comm.torch"
    )  # as an attribute of deepspeed.comm, torch is torch itself
    monkeypatch.setattr(builder, "build_shm_op", lambda: calls.append(os.environ["TORCH_EXTENSIONS_DIR"]))
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", True)
    return calls


def test_without_being_asked_nothing_is_built(built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZHGPT_BUILD_OPS", raising=False)
    settle_shm_op()
    assert built == []
    assert deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] is False


def test_a_build_goes_to_a_folder_of_this_environment_alone(
    built: list[str], builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHGPT_BUILD_OPS", "1")
    settle_shm_op()
    assert built == [str(builds)]
    assert builds.parent == tmp_path / "zhgpt" / "torch_extensions"
    assert re.fullmatch("[0-9a-f]{16}", builds.name)
    monkeypatch.setattr(sys, "prefix", "/another/environment")
    settle_shm_op()
    assert built[1] != built[0]


def test_the_lock_of_a_killed_build_is_removed(
    builds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = builds / "deepspeed_shm_comm" / "lock"
    stale.parent.mkdir()
    stale.touch()
    with building(instead="-"):
        assert not stale.exists()
        assert not can_be_locked(builds / "build.lock")
    assert can_be_locked(builds / "build.lock")
    assert capsys.readouterr().err == f"removing the stale build lock {stale} that a killed build left\n"


def test_a_build_that_another_process_does_not_end_is_refused_with_the_way_around(
    built: list[str], builds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHGPT_BUILD_OPS", "1")
    monkeypatch.setattr(op_builds, "BUILD_TIMEOUT_SECONDS", 1.0)
    with held(builds / "build.lock", 60), pytest.raises(StorageError) as caught:
        settle_shm_op()
    assert built == []
    assert str(caught.value) == (
        f"{builds / 'build.lock'}: another process has been building DeepSpeed's ops for 1 s; end it, or start without "
        "ZHGPT_BUILD_OPS=1"
    )


def test_a_build_waits_for_another_process_that_ends(built: list[str], builds: Path) -> None:
    with held(builds / "build.lock", 0.5), building(instead="-"):
        assert not can_be_locked(builds / "build.lock")
