"""Workers, MPI ranks, and a build that is killed again and again: the bytes of an undisturbed one."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from processes import children

from megatron_style_data.build import build
from megatron_style_data.build_folder import path_building
from megatron_style_data.build_settings import BuildProgress, BuildSettings
from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.fast_encoding import plain_definition

SUFFIXES = (".bin", ".idx", ".meta.json")
DOCUMENTS = 2500


def contents(prefix: Path) -> list[bytes]:
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in SUFFIXES]


@pytest.fixture
def large(tmp_path: Path, tokenizer_folder: Path, texts: list[str]) -> BuildSettings:
    """3 MB of text, so that worker processes are started."""
    draw = random.Random(1)
    with open(tmp_path / "large.jsonl", "w") as file:
        for _ in range(DOCUMENTS):
            text = "".join(draw.choices(texts, k=draw.randrange(2, 10)))
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return BuildSettings([str(tmp_path / "large.jsonl")], str(tokenizer_folder), tmp_path / "one", valid_fraction=0.1)


class MostWorkers:
    """Reports of a build, at each of which its workers are counted: children of the host, which is its only child."""

    def __init__(self) -> None:
        self.others = children(os.getpid())  # processes that other tests keep for the whole session
        self.workers = 0

    def __call__(self, progress: BuildProgress) -> None:
        for host in children(os.getpid()):
            if progress.stage == "encoding" and host not in self.others:
                self.workers = max(self.workers, len(children(host)))


def test_one_two_and_five_workers_give_the_same_bytes(
    large: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(large)
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1 << 16)
    monkeypatch.setattr("megatron_style_data.build_preparation._BYTES_WORTH_A_WORKER", 1 << 16)
    for workers in (1, 2, 5):
        count = MostWorkers()
        result = build(replace(large, output=tmp_path / f"w{workers}", workers=workers), count)
        assert count.workers == workers
        assert result.encoder.startswith("fastokens ")
        assert contents(tmp_path / f"w{workers}") == contents(large.output)


# Wears out after one unit, and says so whenever a worker takes another one's place.
SOON_WORN = """
import sys
import megatron_style_data.encoding_worker as worker
worker._BYTES_A_WORKER = 1
fork = worker._fork
def counting(*arguments, first):
    if not first:
        with open({replacements!r}, "a") as file:
            file.write("replaced\\n")
    return fork(*arguments, first=first)
worker._fork = counting
sys.exit(worker.main([int(word) for word in sys.argv[1:]]))
"""


def test_workers_that_are_replaced_go_on_with_the_next_unit(
    large: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(large)
    replacements = tmp_path / "replacements"
    code = SOON_WORN.format(replacements=str(replacements))
    monkeypatch.setattr("megatron_style_data.encoding_processes._PROGRAM", ("-c", code))
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1 << 19)
    build(replace(large, output=tmp_path / "replaced", workers=2))
    assert contents(tmp_path / "replaced") == contents(large.output)
    units = -(-Path(large.inputs[0]).stat().st_size // (1 << 19))
    assert units >= 5
    # Two workers began; each further unit is done by one that took a worn one's place.
    assert len(replacements.read_text().splitlines()) >= units - 2


def fewer_merges(content: bytes, end_of_text: str) -> str:
    definition = json.loads(plain_definition(content, end_of_text))
    definition["model"]["merges"] = definition["model"]["merges"][:-40]
    return json.dumps(definition)


def unigram(content: bytes, end_of_text: str) -> str:
    return json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}})


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        (fewer_merges, r"fastokens gives other ids for '.+'"),
        (unigram, r"fastokens does not read this tokenizer \(.+\)"),
    ],
)
def test_a_fast_encoder_that_fails_at_the_start_is_not_used(
    large: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, definition: Callable[..., str], why: str
) -> None:
    build(large)
    monkeypatch.setattr("megatron_style_data.build_preparation.plain_definition", definition)
    result = build(replace(large, output=tmp_path / "slow", workers=2))
    assert re.fullmatch(f"the tokenizer itself, as {why}", result.encoder)
    assert contents(tmp_path / "slow") == contents(large.output)


# --- kills ---

BUILD = """
import sys
from pathlib import Path
import megatron_style_data.build_plan as plan
from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
plan.UNIT_BYTES = 1 << 15
inputs, tokenizer, output = sys.argv[1:]
result = build(BuildSettings([inputs], tokenizer, Path(output), workers=2, valid_fraction=0.1))
print(result.resumed_documents)
"""


def command(settings: BuildSettings, output: Path) -> list[str]:
    return [sys.executable, "-c", BUILD, settings.inputs[0], settings.tokenizer, str(output)]


def finished_units(output: Path) -> int:
    return len(list((path_building(output) / "units").glob("[0-9]*.records")))


def killed_after(words: Sequence[str], output: Path, units: int, ended_by: signal.Signals) -> bool:
    """Starts a build and kills it when it has finished ``units`` more than there are; whether it did not end before."""
    already = finished_units(output)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and finished_units(output) < already + units:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(ended_by)
        return process.wait(30) == -ended_by
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.slow
def test_a_build_killed_twenty_times_gives_the_bytes_of_an_undisturbed_one(
    large: BuildSettings, tmp_path: Path
) -> None:
    subprocess.run(command(large, large.output), check=True, timeout=120)
    output, draw = tmp_path / "killed", random.Random(2)
    interrupted = 0
    for number in range(20):
        ended_by = signal.SIGKILL if number % 4 else signal.SIGTERM
        killed = killed_after(command(large, output), output, draw.randrange(1, 30), ended_by)
        if Path(f"{output}.meta.json").exists():  # it was published before the signal came
            assert contents(output) == contents(large.output)
            for suffix in SUFFIXES:
                os.unlink(f"{output}{suffix}")
        else:
            interrupted += killed and finished_units(output) > 0
    assert interrupted >= 12
    again = tmp_path / "again"
    assert killed_after(command(large, again), again, 5, signal.SIGKILL)
    done = subprocess.run(command(large, again), timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "nothing of the killed build was taken over"
    assert contents(again) == contents(large.output)
    assert not path_building(again).exists()


# --- MPI ---

# The command on every rank, with small units, and who encoded which share how far in a file.
MPI_RANK = """
import functools
import sys
import megatron_style_data.build as build
import megatron_style_data.build_mpi as build_mpi
import megatron_style_data.build_plan as plan
from mpi4py import MPI
from zhgpt.cli.main import main
plan.UNIT_BYTES = 1 << 16
encode = build.build_share
@functools.wraps(encode)
def recording(settings, share, shares):
    documents = encode(settings, share, shares)
    with open({record!r}, "a") as file:
        file.write(f"{{MPI.COMM_WORLD.Get_rank()}} {{share}} {{shares}} {{documents}}\\n")
    return documents
build.build_share = build_mpi.build_share = recording
main()
"""


@pytest.mark.skipif(shutil.which("mpiexec", path=str(Path(sys.executable).parent)) is None, reason="no mpiexec")
def test_several_mpi_ranks_encode_and_give_the_bytes_of_one_build(large: BuildSettings, tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    build(large)
    mpiexec, record = str(Path(sys.executable).parent / "mpiexec"), tmp_path / "record"
    words = ["--input", large.inputs[0], "--tokenizer", large.tokenizer, "--output", str(tmp_path / "mpi"),
             "--valid-fraction", "0.1", "--mpi"]  # fmt: skip
    code = MPI_RANK.format(record=str(record))
    done = subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-c", code, "data", "build", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "mpi") == contents(large.output)
    encoded = [tuple(map(int, line.split())) for line in record.read_text().splitlines()]
    assert sorted((share, shares) for _, share, shares, _ in encoded) == [(share, 4) for share in range(1, 5)]
    assert {rank for rank, _, _, _ in encoded} == {1, 2}
    assert all(documents > 0 for *_, documents in encoded)
    assert sum(documents for *_, documents in encoded) == DOCUMENTS


def test_without_mpi4py_it_is_said_what_to_install(large: BuildSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_style_data.build_mpi import build_under_mpi

    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(SettingError, match=r"mpi4py cannot be loaded .*pip install 'zhgpt\[mpi\]'"):
        build_under_mpi(large)
