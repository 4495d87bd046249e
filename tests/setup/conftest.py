"""A tiny project with stand-in packages: the real set-up script and the real pip run in seconds, without a network."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The smallest build backend there is: it hands out a wheel that lies ready.
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import shutil
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return shutil.copy("ready/zhgpt-0.1-py3-none-any.whl", wheel_directory).rpartition("/")[2]
build_wheel = build_editable
"""
REQUIREMENTS = (
    "Requires-Dist: torch\nRequires-Dist: core-only\nProvides-Extra: dev\nRequires-Dist: dev-only; extra == 'dev'\n"
)
CONSTRAINTS = "torch==2.13.0\ncore-only==1.0\ndev-only==1.0\nflash-attn==9.9\nliger-kernel==0.9\n"


def write_wheel(folder: Path, name: str, version: str, requirements: str = "") -> None:
    """A pure Python wheel with one module that knows its version."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files = {
        f"{name.replace('-', '_')}.py": f'__version__ = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


@dataclass
class SmallProject:
    """A folder with the real set-up script; ``run`` calls it with pip restricted to the stand-in packages."""

    folder: Path
    packages: Path
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, level: str = "core", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "setup_environment.sh"), level],
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def environment(self, **settings: str) -> dict[str, str]:
        ours = {"PYTHON", "VENV", "TORCH_INDEX_URL", "ZHGPT_SYSTEM_TORCH", "PYTHONPATH", "VIRTUAL_ENV"}
        clean = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("PIP_")}
        nowhere = f"file://{self.folder}"  # instead of PIP_NO_INDEX, which would overrule an index asked for
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": nowhere, "PIP_FIND_LINKS": str(self.packages)}
        return {**clean, **pip, "PYTHON": sys.executable, **self.settings, **settings}

    def version_of(self, package: str) -> str | None:
        """The version that the environment made sees, or None."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        done = subprocess.run(
            [str(self.folder / ".venv/bin/python"), "-P", "-c", code],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.strip() or None


@pytest.fixture
def make_wheel() -> Callable[..., None]:
    """write_wheel(folder, name, version) for a test."""
    return write_wheel


@pytest.fixture(scope="session")
def stand_in_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for name, version in (
        *(("torch", "2.13.0"), ("torch", "2.13.0+cpu"), ("torch", "2.14.0")),
        *(("core-only", "1.0"), ("core-only", "2.0"), ("dev-only", "1.0"), ("flash-attn", "9.9")),
        *(("setuptools", "1.0"), ("wheel", "1.0")),
    ):
        write_wheel(folder, name, version)
    write_wheel(folder, "liger-kernel", "0.9", "Requires-Dist: triton\n")  # which there is none of
    return folder


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory, stand_in_packages: Path) -> Callable[[], SmallProject]:
    def make() -> SmallProject:
        folder = tmp_path_factory.mktemp("project")
        shutil.copy(ROOT / "setup_environment.sh", folder)
        files = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "constraints.txt": CONSTRAINTS, "setup.cfg": ""}
        for name, text in files.items():
            (folder / name).write_text(text)
        write_wheel(folder / "ready", "zhgpt", "0.1", REQUIREMENTS)
        return SmallProject(folder, stand_in_packages)

    return make


@pytest.fixture
def project(make_project: Callable[[], SmallProject]) -> SmallProject:
    """A project without an environment."""
    return make_project()


@pytest.fixture
def stub(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes an executable shell script: stub(name, body)."""

    def write(name: str, body: str) -> Path:
        path = tmp_path / "stubs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write
