"""What a wheel of the project holds, and that constraints.txt pins everything that setup.cfg asks for."""

import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("zhgpt", "megatron_style_data")


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def requirements() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "wheels")]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next((source / "wheels").glob("*.whl")))


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    sources = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert sources - packed == set(), "missing in the wheel: add them to [options.package_data] in setup.cfg"
    assert packed - sources == set()


def test_the_wheel_ships_the_demo_corpus_with_its_notice(wheel: zipfile.ZipFile) -> None:
    demo = [name for name in wheel.namelist() if name.startswith("zhgpt/demo/")]
    assert sum(name.endswith(".jsonl.zst") for name in demo) >= 1
    assert wheel.read("zhgpt/demo/NOTICE").strip() != b""


def test_the_wheel_has_the_license_and_the_command(wheel: zipfile.ZipFile) -> None:
    info = {name.rpartition("/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert b"Apache License" in wheel.read(info["LICENSE"])
    assert b"zhgpt = zhgpt.cli.main:main" in wheel.read(info["entry_points.txt"])
    metadata = wheel.read(info["METADATA"]).decode()
    assert "License: Apache-2.0" in metadata
    assert re.search(r"^Requires-Python: <3.14,>=3.11$", metadata, re.MULTILINE)


def test_every_requirement_and_extra_is_pinned_to_a_version_it_allows() -> None:
    pinned = pins()
    missing = [r.name for r in requirements() if canonicalize_name(r.name) not in pinned]
    assert missing == []
    wrong = [
        f"{r} does not allow {pinned[canonicalize_name(r.name)]}"
        for r in requirements()
        if not r.specifier.contains(pinned[canonicalize_name(r.name)], prereleases=True)
    ]
    assert wrong == []


@pytest.mark.skipif(
    not (Path(sys.prefix) / "made-from").exists(), reason="this Python environment was not made by setup_environment.sh"
)
def test_everything_installed_is_pinned_at_the_version_that_is_there() -> None:
    pinned = pins()
    own_torch = (Path(sys.prefix) / "constraints-system-torch.txt").exists()
    not_ours = {"zhgpt", "pip", *(("torch", "triton") if own_torch else ())}
    found = {
        canonicalize_name(d.metadata["Name"]): d.version.split("+")[0]
        for d in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    assert {n: v for n, v in found.items() if n not in not_ours and pinned.get(n) != v} == {}
