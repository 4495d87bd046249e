"""A build in shares, and a build that is killed again and again: the bytes of an undisturbed one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megatron_style_data.build import assemble, build, build_share
from megatron_style_data.build_folder import path_building
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import load_manifest
from megatron_style_data.readers import ReadOptions
from megatron_style_data.verify import verify

SUFFIXES = (".bin", ".idx", ".meta.json")


def contents(prefix: Path) -> list[bytes]:
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in SUFFIXES]


@pytest.fixture
def settings(
    tmp_path: Path, tokenizer_folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> BuildSettings:
    """A corpus of lines with bad ones among them and of Parquet row groups, cut into many units."""
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1000)
    (tmp_path / "corpus").mkdir()
    lines = [json.dumps({"content": text}) for text in texts[:40]]
    lines[17:17] = ["not json", json.dumps({"content": " "}), ""]
    lines[30] = lines[30].replace('{"content"', '{"text": "the field is chosen by the first line", "content"')
    (tmp_path / "corpus" / "a.jsonl").write_text("\n".join(lines) + "\n")
    table = pa.table({"text": texts[40:]})
    pq.write_table(table, tmp_path / "corpus" / "b.parquet", row_group_size=3)
    return BuildSettings([str(tmp_path / "corpus")], str(tokenizer_folder), tmp_path / "d", valid_fraction=0.1)


@pytest.fixture
def whole(settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What one unit for each file gives."""
    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1 << 23)
        build(replace(settings, output=tmp_path / "whole"))
    return contents(tmp_path / "whole")


def test_files_cut_into_parts_give_the_same_dataset(settings: BuildSettings, whole: list[bytes]) -> None:
    counters = build(settings).counters
    assert contents(settings.output) == whole
    assert counters.documents == 60
    assert counters.dropped_in_words() == [
        f"1 empty, first: {settings.inputs[0]}/a.jsonl, line 19: no text but spaces",
        f"1 not JSON, first: {settings.inputs[0]}/a.jsonl, line 18: not JSON (Expecting value: line 1 column 1 (char 0))",
    ]


@pytest.mark.parametrize("shares", [1, 3])
def test_shares_in_any_order_give_the_bytes_of_one_build(
    settings: BuildSettings, whole: list[bytes], shares: int
) -> None:
    encoded = [build_share(settings, share, shares) for share in range(shares, 0, -1)]
    assert sum(encoded) == 60
    assemble(settings)
    assert contents(settings.output) == whole
    assert not path_building(settings.output).exists()


def test_a_bad_line_of_a_part_is_refused_by_its_line_in_the_file(settings: BuildSettings) -> None:
    with pytest.raises(BadDataError, match=r"a\.jsonl, line 18: not JSON"):
        build(replace(settings, read=ReadOptions(on_bad="refuse")))


def test_too_many_bad_documents_of_all_parts_together_end_the_build(settings: BuildSettings) -> None:
    with pytest.raises(BadDataError, match="1 bad documents, more than max_bad 0"):
        build(replace(settings, read=ReadOptions(max_bad=0)))
    build(replace(settings, read=ReadOptions(max_bad=1)))


def test_missing_shares_are_named_and_what_is_there_stays(settings: BuildSettings, whole: list[bytes]) -> None:
    build_share(settings, 1, 3)
    with pytest.raises(
        StorageError, match=r"\d+ of \d+ units are not there, .*\(units 2, 3, 5, 6, 8 …\); .*--assemble"
    ):
        assemble(settings)
    build_share(settings, 2, 3)
    build_share(settings, 3, 3)
    assemble(settings)
    assert contents(settings.output) == whole


def test_shares_of_other_settings_are_not_put_together(settings: BuildSettings) -> None:
    build_share(settings, 1, 1)
    with pytest.raises(StorageError, match="or are of other settings or files"):
        assemble(replace(settings, seed=1))
    assemble(settings)


def test_a_build_takes_what_shares_have_done(settings: BuildSettings, whole: list[bytes]) -> None:
    build_share(settings, 1, 2)
    assert 0 < build(settings).resumed_documents < 60
    assert contents(settings.output) == whole


def test_a_share_that_cannot_be_is_refused(settings: BuildSettings) -> None:
    for share, shares in ((0, 3), (4, 3)):
        with pytest.raises(SettingError, match=rf"share {share}/3: expected a number from 1 to 3"):
            build_share(settings, share, shares)


# --- shuffled documents ---


def test_shuffled_documents_are_the_same_in_every_split(settings: BuildSettings, tmp_path: Path) -> None:
    build(settings)
    shuffled = replace(settings, shuffle_documents=True, output=tmp_path / "shuffled")
    manifest = build(shuffled).manifest
    verify(shuffled.output)
    before, after = IndexedDataset.open(settings.output), IndexedDataset.open(shuffled.output)
    assert manifest.splits == load_manifest(settings.output).splits
    assert manifest.settings["shuffle_documents"] is True
    for split in manifest.splits.values():
        numbers = range(split.first_document, split.first_document + split.documents)
        plain, mixed = ([one.document(number).tobytes() for number in numbers] for one in (before, after))
        assert plain != mixed
        assert Counter(plain) == Counter(mixed)


def test_the_shuffle_depends_on_the_seed_only(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = replace(settings, shuffle_documents=True)
    build(shuffled)
    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.build_assembly._WINDOW_BYTES", 64)
        patched.setattr("megatron_style_data.build_assembly._COPY_BYTES", 16)
        patched.setattr("megatron_style_data.build_assembly._OPEN_FILES", 2)
        build(replace(shuffled, output=tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(shuffled.output)
    build(replace(shuffled, seed=1, valid_fraction=0, output=tmp_path / "one"))
    build(replace(shuffled, seed=2, valid_fraction=0, output=tmp_path / "two"))
    assert contents(tmp_path / "one")[0] != contents(tmp_path / "two")[0]


def splitmix64(seed: int, count: int) -> list[int]:
    """The published algorithm, one number at a time; its first output for seed 0 is 0xE220A8397B1DCDAF."""
    mask, found = (1 << 64) - 1, []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        value = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        found.append(value ^ (value >> 31))
    return found


def test_documents_are_shuffled_by_splitmix64() -> None:
    from megatron_style_data.build_assembly import document_order

    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]
    keys = splitmix64(5, 10)
    assert document_order(np.zeros(10, np.uint8), 5).tolist() == sorted(range(10), key=keys.__getitem__)
    assert sorted(document_order(np.array([1, 0, 0, 2], np.uint8), 3)[:2].tolist()) == [1, 2]
    assert document_order(np.array([1, 0, 0, 2], np.uint8), None).tolist() == [1, 2, 0, 3]


# --- workers and kills ---

SCRIPT = """
import sys
from pathlib import Path
import megatron_style_data.build_plan as plan
import megatron_style_data.encoding_worker as worker
from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
plan.UNIT_BYTES = 1 << 16
inputs, tokenizer, output, workers = sys.argv[1:]
build(BuildSettings([inputs], tokenizer, Path(output), workers=int(workers), valid_fraction=0.1))
"""


@pytest.fixture
def large(tmp_path: Path, tokenizer_folder: Path, texts: list[str]) -> BuildSettings:
    """5 MB of text, so that worker processes are started."""
    draw = random.Random(1)
    with open(tmp_path / "large.jsonl", "w") as file:
        for _ in range(2500):
            text = "".join(draw.choices(texts, k=draw.randrange(2, 10)))
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return BuildSettings([str(tmp_path / "large.jsonl")], str(tokenizer_folder), tmp_path / "one", valid_fraction=0.1)


def command(settings: BuildSettings, output: Path, workers: int) -> list[str]:
    return [sys.executable, "-c", SCRIPT, settings.inputs[0], settings.tokenizer, str(output), str(workers)]


def test_one_two_and_five_workers_give_the_same_bytes(large: BuildSettings, tmp_path: Path) -> None:
    for workers in (1, 2, 5):
        subprocess.run(command(large, tmp_path / f"w{workers}", workers), check=True, timeout=120)
    assert contents(tmp_path / "w1") == contents(tmp_path / "w2") == contents(tmp_path / "w5")
    assert build(large).encoder.startswith("fastokens ")
    assert contents(large.output) == contents(tmp_path / "w1")


def test_workers_that_are_replaced_go_on_with_the_next_unit(
    large: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered in the workers by a module that they import first."""
    build(large)
    code = (
        "import sys; import megatron_style_data.encoding_worker as worker; worker._BYTES_A_WORKER = 1; "
        "sys.exit(worker.main([int(word) for word in sys.argv[1:]]))"
    )
    monkeypatch.setattr("megatron_style_data.encoding_processes._PROGRAM", ("-c", code))
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1 << 19)
    build(replace(large, output=tmp_path / "replaced", workers=2))
    assert contents(tmp_path / "replaced") == contents(large.output)


@pytest.mark.slow
def test_a_build_killed_twenty_times_gives_the_bytes_of_an_undisturbed_one(
    large: BuildSettings, tmp_path: Path
) -> None:
    started = time.monotonic()
    subprocess.run(command(large, large.output, 2), check=True, timeout=120)
    seconds = time.monotonic() - started
    output, draw = tmp_path / "killed", random.Random(2)
    for number in range(20):
        process = subprocess.Popen(command(large, output, 2), stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.3 * seconds, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if number % 4 else signal.SIGTERM)
        process.wait(30)
        if Path(f"{output}.meta.json").exists():
            assert contents(output) == contents(large.output)
            for suffix in SUFFIXES:
                os.unlink(f"{output}{suffix}")
    deadline = time.monotonic() + 30
    while path_building(output).exists() and time.monotonic() < deadline:
        if subprocess.run(command(large, output, 2), timeout=120, check=False).returncode == 0:
            break
        time.sleep(0.2)
    else:
        subprocess.run(command(large, output, 2), check=True, timeout=120)
    assert contents(output) == contents(large.output)
    assert not path_building(output).exists()


# --- MPI ---


@pytest.mark.skipif(shutil.which("mpiexec", path=str(Path(sys.executable).parent)) is None, reason="no mpiexec")
def test_mpi_ranks_give_the_bytes_of_one_build(large: BuildSettings, tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    build(large)
    mpiexec = str(Path(sys.executable).parent / "mpiexec")
    words = ["--input", large.inputs[0], "--tokenizer", large.tokenizer, "--output", str(tmp_path / "mpi"),
             "--valid-fraction", "0.1", "--mpi"]  # fmt: skip
    done = subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-m", "zhgpt.cli.main", "data", "build", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "mpi") == contents(large.output)


def test_without_mpi4py_it_is_said_what_to_install(large: BuildSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from megatron_style_data.build_mpi import build_under_mpi

    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(SettingError, match=r"mpi4py cannot be loaded .*pip install 'zhgpt\[mpi\]'"):
        build_under_mpi(large)
