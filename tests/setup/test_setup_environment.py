"""The set-up script: what it installs, that it does nothing twice, that it goes on after a kill, what it refuses."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

pytestmark = pytest.mark.slow


class Project(Protocol):
    folder: Path
    packages: Path

    def run(self, level: str = ..., **settings: str) -> subprocess.CompletedProcess[str]: ...
    def environment(self, **settings: str) -> dict[str, str]: ...
    def version_of(self, package: str) -> str | None: ...


Stub = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def installed(make_project: Callable[[], Project]) -> Project:
    project = make_project()
    done = project.run()
    assert done.returncode == 0, done.stderr
    return project


def test_core_installs_the_pinned_versions_and_no_development_tools(installed: Project) -> None:
    assert installed.version_of("torch") == "2.13.0+cpu"
    assert installed.version_of("core-only") == "1.0"
    assert installed.version_of("zhgpt") == "0.1"
    assert installed.version_of("dev-only") is None


def test_a_second_call_installs_nothing_and_takes_less_than_a_second(installed: Project) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = installed.run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1  # of CPU time


def test_dev_adds_the_tools_and_then_core_has_nothing_to_do(installed: Project) -> None:
    assert installed.run("dev").returncode == 0
    assert installed.version_of("dev-only") == "1.0"
    assert installed.version_of("flash-attn") == "9.9"
    assert installed.version_of("liger-kernel") == "0.9"
    assert installed.run("core").stdout == ""


def test_changed_pins_are_installed_over_the_old_ones(installed: Project) -> None:
    constraints = installed.folder / "constraints.txt"
    constraints.write_text(constraints.read_text().replace("core-only==1.0", "core-only==2.0"))
    done = installed.run()
    assert done.returncode == 0, done.stderr
    assert installed.version_of("core-only") == "2.0"
    assert "installing torch" not in done.stdout


def test_an_installation_that_was_killed_goes_on(project: Project) -> None:
    process = subprocess.Popen(
        [str(project.folder / "setup_environment.sh")], env=project.environment(), start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (project.folder / ".venv" / "installing").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert project.version_of("zhgpt") == "0.1"
    assert project.run().stdout == ""


def test_a_package_that_a_kill_left_incomplete_is_installed_again(installed: Project) -> None:
    module = next((installed.folder / ".venv").glob("lib/*/site-packages/core_only.py"))
    module.unlink()
    (installed.folder / ".venv" / "installed-core").unlink()
    (installed.folder / ".venv" / "installed-dev").unlink(missing_ok=True)
    (installed.folder / ".venv" / "installing").touch()
    done = installed.run()
    assert re.search(r"core_only-.*.dist-info is not whole", done.stdout)
    assert module.exists()


def test_an_nvidia_driver_that_comes_later_brings_the_build_without_a_local_version(
    installed: Project, stub: Stub
) -> None:
    path = stub("nvidia-smi", "echo 'GPU 0: NVIDIA L20 (UUID: GPU-0)'").parent
    done = installed.run(PATH=f"{path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "an NVIDIA driver is here" in done.stdout
    assert installed.version_of("torch") == "2.13.0"


def test_torch_index_url_decides_where_torch_comes_from(
    installed: Project, tmp_path: Path, make_wheel: Callable[..., None]
) -> None:
    page = tmp_path / "torch" / "index.html"
    make_wheel(page.parent, "torch", "2.13.0+zz")
    page.write_text('<a href="torch-2.13.0%2Bzz-py3-none-any.whl">torch-2.13.0+zz-py3-none-any.whl</a>')
    done = installed.run(TORCH_INDEX_URL=f"file://{tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "from TORCH_INDEX_URL" in done.stdout
    assert installed.version_of("torch") == "2.13.0+zz"


def test_a_clusters_own_torch_is_used_and_not_replaced(
    project: Project, tmp_path: Path, stand_in_packages: Path
) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "user" / "lib" / version / "site-packages"
    shutil.unpack_archive(stand_in_packages / "torch-2.14.0-py3-none-any.whl", site, format="zip")
    settings = {"PYTHONUSERBASE": str(tmp_path / "user"), "ZHGPT_SYSTEM_TORCH": "1"}
    done = project.run(**settings)
    assert done.returncode == 0, done.stderr
    assert "using torch 2.14.0" in done.stdout
    assert list((project.folder / ".venv").glob("lib/*/site-packages/torch*")) == []
    assert project.run(**settings).stdout == ""


def test_a_clusters_torch_that_is_not_there_is_named(project: Project, tmp_path: Path) -> None:
    done = project.run(ZHGPT_SYSTEM_TORCH="1", PYTHONUSERBASE=str(tmp_path))
    assert done.returncode == 66
    assert "has no torch. Load the cluster's module first" in done.stderr


def test_a_python_that_is_too_old_is_refused_with_its_version(project: Project, stub: Stub) -> None:
    old = stub("python3", 'case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac')
    done = project.run(PYTHON=str(old))
    assert done.returncode == 2
    assert f"Python 3.11, 3.12 or 3.13 is needed; {old} is Python 3.9.2" in done.stderr


def test_a_python_without_venv_is_refused_with_the_package_to_install(project: Project, stub: Stub) -> None:
    body = f'case "$*" in *ensurepip*) exit 1 ;; esac\nexec {sys.executable} "$@"'
    done = project.run(PYTHON=str(stub("python3", body)))
    assert done.returncode == 2
    assert "has no venv module. Debian and Ubuntu: apt-get install python3-venv" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small file system")
def test_a_full_disk_is_said_before_anything_is_installed(project: Project, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = f"mount -t tmpfs -o size=90m tmpfs {small} && exec {project.folder}/setup_environment.sh"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=project.environment(VENV=str(small / "venv")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 74, done.stderr
    assert "MB are free where" in done.stderr
    assert "it needs about 2 GB" in done.stderr


def test_a_folder_that_was_not_made_here_is_not_touched(project: Project) -> None:
    keep = project.folder / ".venv" / "mine.txt"
    keep.parent.mkdir()
    keep.touch()
    done = project.run()
    assert done.returncode == 2
    assert ".venv exists and was not made here" in done.stderr
    assert keep.exists()


def test_a_failing_pip_says_that_the_same_command_goes_on(installed: Project, tmp_path: Path) -> None:
    done = installed.run(TORCH_INDEX_URL=f"file://{tmp_path}", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1
    assert "run the same command again and it goes on from here" in done.stderr


@pytest.mark.parametrize(
    ("level", "settings", "message"),
    [
        ("everything", {}, "everything is no level; there are: core, dev"),
        ("core", {"ZHGPT_SYSTEM_TORCH": "yes"}, "ZHGPT_SYSTEM_TORCH is 'yes'; it is 1 or not set"),
    ],
)
def test_a_setting_with_no_meaning_is_refused(
    project: Project, level: str, settings: dict[str, str], message: str
) -> None:
    done = project.run(level, **settings)
    assert done.returncode == 2
    assert message in done.stderr
