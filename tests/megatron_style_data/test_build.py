"""A build: the same bytes however it is done, whole or not at all, and nobody left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from processes import alive, children

from megatron_style_data.build import build
from megatron_style_data.build_folder import path_building
from megatron_style_data.build_settings import BuildProgress, BuildSettings
from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError, UserError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import load_manifest
from megatron_style_data.publish import publish
from megatron_style_data.readers import ReadOptions
from megatron_style_data.tokenizer import load_tokenizer

SUFFIXES = (".bin", ".idx", ".meta.json")


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    path.write_bytes(zstandard.compress(lines.encode()) if path.suffix == ".zst" else lines.encode())
    return path


def contents(prefix: Path) -> list[bytes]:
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in SUFFIXES]


@pytest.fixture
def corpus(tmp_path: Path, texts: list[str]) -> Path:
    """Two sources: 40 documents and 20, of which two are also in the first."""
    write_jsonl(tmp_path / "corpus" / "a.jsonl", texts[:40])
    write_jsonl(tmp_path / "corpus" / "b.jsonl.zst", texts[40:58] + texts[:2])
    return tmp_path / "corpus"


@pytest.fixture
def settings(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> BuildSettings:
    return BuildSettings([str(corpus)], str(tokenizer_folder), tmp_path / "out" / "d", valid_fraction=0.1)


def test_every_document_is_there_once_ended_by_end_of_text(
    settings: BuildSettings, tokenizer_folder: Path, texts: list[str]
) -> None:
    manifest = build(settings).manifest
    tokenizer = load_tokenizer(tokenizer_folder)
    dataset = IndexedDataset.open(settings.output)
    documents = [dataset.document(number).tolist() for number in range(len(dataset))]
    assert all(ids[-1] == tokenizer.end_of_text_id and tokenizer.end_of_text_id not in ids[:-1] for ids in documents)
    assert sorted(tokenizer.decode(ids[:-1]) for ids in documents) == sorted(texts[:58] + texts[:2])
    assert manifest == load_manifest(settings.output)
    assert (manifest.documents, manifest.sequences, manifest.origin, manifest.dtype) == (60, 60, "built", "uint16")


def test_documents_keep_the_order_of_the_input_within_a_split(
    settings: BuildSettings, tokenizer_folder: Path, texts: list[str]
) -> None:
    manifest = build(settings).manifest
    tokenizer, dataset = load_tokenizer(tokenizer_folder), IndexedDataset.open(settings.output)
    order = texts[:58] + texts[:2]
    for split in manifest.splits.values():
        numbers = range(split.first_document, split.first_document + split.documents)
        found = [tokenizer.decode(dataset.document(number)[:-1].tolist()) for number in numbers]
        places = [order.index(text) for text in found]
        assert [place for place in places if place > 1] == sorted(place for place in places if place > 1)


def test_held_out_texts_come_from_every_source_and_are_not_trained_on(
    settings: BuildSettings, tokenizer_folder: Path
) -> None:
    manifest = build(replace(settings, test_fraction=0.1)).manifest
    tokenizer, dataset = load_tokenizer(tokenizer_folder), IndexedDataset.open(settings.output)
    texts_of = {
        name: {
            tokenizer.decode(dataset.document(number).tolist())
            for number in range(split.first_document, split.first_document + split.documents)
        }
        for name, split in manifest.splits.items()
    }
    assert not texts_of["train"] & (texts_of["valid"] | texts_of["test"])
    assert not texts_of["valid"] & texts_of["test"]
    assert manifest.splits["valid"].documents >= 4 + 2


def test_counts_are_those_of_the_text_as_tokenised(settings: BuildSettings, tmp_path: Path, texts: list[str]) -> None:
    write_jsonl(tmp_path / "corpus" / "a.jsonl", [text.replace("\n", "\r\n") for text in texts[:40]] + ["", " \n"])
    manifest = build(settings).manifest
    first, second = manifest.sources
    assert first.utf8_bytes == sum(len(text.encode()) for text in texts[:40])
    assert first.dropped == {"empty": 2}
    assert first.changed["line_ends"] > 0
    assert (first.name, second.name) == ("a.jsonl", "b.jsonl.zst")
    assert first.utf8_bytes + second.utf8_bytes == manifest.utf8_bytes
    assert sum(split.utf8_bytes for split in manifest.splits.values()) == manifest.utf8_bytes
    assert first.tokens + second.tokens == manifest.tokens


@pytest.mark.parametrize("workers", [2, 3])
def test_the_output_does_not_depend_on_the_number_of_workers(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr("megatron_style_data.build_preparation._BYTES_WORTH_A_WORKER", 1)
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1000)
    build(settings)
    build(replace(settings, output=tmp_path / "elsewhere" / "d", workers=workers))
    assert contents(tmp_path / "elsewhere" / "d") == contents(settings.output)


def test_another_seed_holds_out_other_documents(settings: BuildSettings) -> None:
    build(settings)
    before = contents(settings.output)
    build(replace(settings, seed=1, force=True))
    assert contents(settings.output)[0] != before[0]


def test_int32_is_written_when_asked_for(settings: BuildSettings) -> None:
    assert build(replace(settings, dtype="int32")).manifest.dtype == "int32"
    assert IndexedDataset.open(settings.output).dtype == "int32"


def test_a_special_token_in_the_text_does_not_end_the_document(
    settings: BuildSettings, tmp_path: Path, tokenizer_folder: Path
) -> None:
    write_jsonl(tmp_path / "forged" / "a.jsonl", ["一<|endoftext|>二", "三<|im_start|>四"])
    build(replace(settings, inputs=[str(tmp_path / "forged")], valid_fraction=0))
    tokenizer, dataset = load_tokenizer(tokenizer_folder), IndexedDataset.open(settings.output)
    assert [int((dataset.document(number) == tokenizer.end_of_text_id).sum()) for number in range(2)] == [1, 1]
    assert tokenizer.decode(dataset.document(0)[:-1].tolist()) == "一<|endoftext|>二"


def test_the_tokenizer_is_recorded_relative_to_a_dataset_above_it(settings: BuildSettings, tmp_path: Path) -> None:
    beside = settings.output.parent / "tokenizer"
    beside.mkdir(parents=True)
    for file in Path(settings.tokenizer).iterdir():
        (beside / file.name).write_bytes(file.read_bytes())
    assert build(replace(settings, tokenizer=str(beside))).manifest.tokenizer.path == "tokenizer"
    assert build(replace(settings, force=True)).manifest.tokenizer.path == settings.tokenizer


def test_a_folder_of_text_files_holds_out_whole_files(
    settings: BuildSettings, tmp_path: Path, texts: list[str]
) -> None:
    for number, text in enumerate(texts):
        (tmp_path / "txt").mkdir(exist_ok=True)
        (tmp_path / "txt" / f"{number:03}.txt").write_text(text, "utf-8")
    manifest = build(replace(settings, inputs=[str(tmp_path / "txt")], valid_fraction=0.05)).manifest
    assert manifest.splits["valid"].documents == 3


def test_progress_goes_up_and_names_its_stages(settings: BuildSettings) -> None:
    seen: list[BuildProgress] = []
    manifest = build(settings, seen.append).manifest
    assert list(dict.fromkeys(progress.stage for progress in seen)) == ["encoding", "writing", "measuring"]
    assert [progress.utf8_bytes for progress in seen] == sorted(progress.utf8_bytes for progress in seen)
    assert seen[-1].utf8_bytes == manifest.utf8_bytes
    assert 0.5 * manifest.utf8_bytes < seen[0].estimated_bytes < 2 * manifest.utf8_bytes


# --- interruptions ---


class InterruptionError(Exception):
    """Stands for anything that ends a build in the middle."""


def interrupt_at(stage: str, documents: int = 0) -> Callable[[BuildProgress], None]:
    def report(progress: BuildProgress) -> None:
        if progress.stage == stage and progress.documents >= documents:
            raise InterruptionError

    return report


@pytest.mark.parametrize("stage", ["encoding", "writing", "measuring"])
def test_an_interrupted_build_leaves_nothing_that_looks_finished(settings: BuildSettings, stage: str) -> None:
    with pytest.raises(InterruptionError):
        build(settings, interrupt_at(stage, 1))
    assert [path.name for path in settings.output.parent.iterdir()] == [".d.building"]
    with pytest.raises(MissingInputError):
        load_manifest(settings.output)
    build(settings)
    assert sorted(path.name for path in settings.output.parent.iterdir()) == ["d.bin", "d.idx", "d.meta.json"]


def test_the_next_build_goes_on_where_an_interrupted_one_was_safe(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(settings, output=tmp_path / "whole" / "d")
    build(whole)
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1000)
    with pytest.raises(InterruptionError):
        build(settings, interrupt_at("encoding", 30))
    result = build(settings)
    assert result.resumed_documents >= 30
    assert contents(settings.output) == contents(whole.output)


def test_only_what_changed_in_the_input_is_encoded_again(
    settings: BuildSettings, tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 2000)
    monkeypatch.setattr("megatron_style_data.build_plan._LOOKED_AT_BYTES", 10)
    with pytest.raises(InterruptionError):
        build(settings, interrupt_at("writing"))
    changed = texts[25].replace("村", "城")  # of the same length
    assert changed != texts[25]
    before = (tmp_path / "corpus" / "a.jsonl").stat()
    write_jsonl(tmp_path / "corpus" / "a.jsonl", [*texts[:25], changed, *texts[26:40]])
    os.utime(tmp_path / "corpus" / "a.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
    result = build(settings)
    assert 40 <= result.resumed_documents < 60
    build(replace(settings, output=tmp_path / "fresh" / "d"))
    assert contents(settings.output) == contents(tmp_path / "fresh" / "d")


def test_an_input_that_became_shorter_is_noticed(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1000)
    with pytest.raises(InterruptionError):
        build(settings, interrupt_at("writing"))
    (tmp_path / "corpus" / "b.jsonl.zst").unlink()
    result = build(settings)
    assert 20 <= result.resumed_documents <= result.manifest.documents == 40


def test_units_of_other_settings_are_not_gone_on_with(settings: BuildSettings) -> None:
    with pytest.raises(InterruptionError):
        build(settings, interrupt_at("writing"))
    assert build(replace(settings, seed=9)).resumed_documents == 0


def test_ctrl_c_keeps_what_was_encoded(settings: BuildSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_style_data.build_plan.UNIT_BYTES", 1000)

    def press(progress: BuildProgress) -> None:
        if progress.documents >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(settings, press)
    assert build(settings).resumed_documents >= 30


@pytest.mark.parametrize("renamed", [0, 1, 2, 3])
def test_a_publication_cut_off_between_two_renames_is_taken_back(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    rename, done = os.replace, []

    def cut_off(source: Path, target: Path) -> None:
        if Path(target).parent == settings.output.parent:
            if len(done) == renamed:
                raise InterruptionError
            done.append(target)
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.publish.os.replace", cut_off)
        if renamed < 3:
            with pytest.raises(InterruptionError):
                build(settings)
            with pytest.raises(MissingInputError):
                load_manifest(settings.output)
            patched.undo()
            assert build(settings).resumed_documents == 60
        else:
            build(settings)
    assert sorted(path.name for path in settings.output.parent.iterdir()) == ["d.bin", "d.idx", "d.meta.json"]


def test_a_crash_right_after_publication_leaves_a_finished_dataset(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish_and_crash(folder: Path, prefix: Path) -> None:
        publish(folder, prefix)
        raise InterruptionError

    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.build.publish", publish_and_crash)
        with pytest.raises(InterruptionError):
            build(settings)
    load_manifest(settings.output)
    with pytest.raises(StorageError, match="exists already"):
        build(settings)
    assert not path_building(settings.output).exists()
    assert load_manifest(settings.output).documents == 60


SCRIPT = """
import sys
from pathlib import Path
from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
inputs, tokenizer, output = sys.argv[1:]
build(BuildSettings([inputs], tokenizer, Path(output), workers=2, valid_fraction=0.1))
"""


@pytest.fixture
def slow_build(settings: BuildSettings, tmp_path: Path, texts: list[str]) -> Sequence[str]:
    """A command that encodes with two workers for some seconds."""
    write_jsonl(tmp_path / "corpus" / "large.jsonl", ["".join(texts)[:3000] + str(number) for number in range(4000)])
    return [sys.executable, "-c", SCRIPT, settings.inputs[0], settings.tokenizer, str(settings.output)]


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_leaves_no_process_and_nothing_that_looks_finished(
    slow_build: Sequence[str], settings: BuildSettings, ended_by: signal.Signals
) -> None:
    process = subprocess.Popen(slow_build, stderr=subprocess.DEVNULL)
    try:
        units = path_building(settings.output) / "units"
        deadline = time.monotonic() + 60
        while not list(units.glob("*.records")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        (host,) = children(process.pid)
        workers = [host, *children(host)]
        assert len(workers) == 3
        process.send_signal(ended_by)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.wait(30)
    deadline = time.monotonic() + 30
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived the build"
        time.sleep(0.05)
    assert [path.name for path in settings.output.parent.iterdir()] == [".d.building"]


def test_a_killed_worker_ends_the_build_with_a_sentence(slow_build: Sequence[str], settings: BuildSettings) -> None:
    killed: list[int] = []
    others = children(os.getpid())  # processes that other tests keep for the whole session

    def kill_one(progress: BuildProgress) -> None:
        if progress.stage == "encoding" and progress.documents and not killed:
            host = next(process for process in children(os.getpid()) if process not in others)
            killed.append(children(host)[0])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(
        UserError, match=r"a worker of process \d+ was ended by SIGKILL while encoding; .* fewer --workers"
    ):
        build(replace(settings, workers=2), kill_one)
    assert not any(alive(worker) for worker in children(os.getpid()) if worker not in others)


def test_an_error_in_the_input_ends_the_workers_too(
    settings: BuildSettings, corpus: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_style_data.build_preparation._BYTES_WORTH_A_WORKER", 1)
    large = write_jsonl(corpus / "large.jsonl", ["".join(texts)] * 300)
    with open(large, "ab") as file:
        file.write(b'{"text": "\xff"}\n')
    refusing = replace(settings, workers=2, read=ReadOptions(on_bad="refuse"))
    others = children(os.getpid())
    with pytest.raises(BadDataError, match=r"large\.jsonl, line 301: byte 11 is 0xff"):
        build(refusing)
    assert children(os.getpid()) == others
    assert not list(settings.output.parent.iterdir())


# --- what is refused ---


def test_an_existing_dataset_is_not_overwritten_unless_forced(settings: BuildSettings) -> None:
    build(settings)
    before = contents(settings.output)
    with pytest.raises(StorageError, match=r"d\.meta\.json: this dataset exists already; .* pass --force"):
        build(replace(settings, seed=5))
    assert contents(settings.output) == before
    assert not path_building(settings.output).exists()
    build(replace(settings, seed=5, force=True))
    assert contents(settings.output) != before


def test_an_old_dataset_stays_whole_until_the_forced_build_is_done(settings: BuildSettings) -> None:
    build(settings)
    before = contents(settings.output)
    with pytest.raises(InterruptionError):
        build(replace(settings, seed=5, force=True), interrupt_at("measuring"))
    assert contents(settings.output) == before
    load_manifest(settings.output)


def test_files_from_elsewhere_are_not_overwritten(settings: BuildSettings) -> None:
    settings.output.parent.mkdir()
    Path(f"{settings.output}.bin").write_bytes(b"theirs")
    with pytest.raises(StorageError, match=r"d\.bin: exists already, without a manifest; .*`zhgpt data adopt`"):
        build(settings)
    assert Path(f"{settings.output}.bin").read_bytes() == b"theirs"


def test_two_builds_of_one_output_do_not_meet(settings: BuildSettings) -> None:
    def second(progress: BuildProgress) -> None:
        with pytest.raises(StorageError, match=r"\.d\.building: another build of this output is running"):
            build(settings)

    build(settings, second)
    assert load_manifest(settings.output).documents == 60


def test_a_folder_that_another_build_removes_meanwhile_is_not_built_in(
    settings: BuildSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "megatron_style_data.build_folder.fcntl.flock",
        lambda file, how: shutil.rmtree(path_building(settings.output)),
    )
    with pytest.raises(StorageError, match=r"\.d\.building: another build of this output has just ended; start again"):
        build(settings)


def test_an_output_that_cannot_be_made_is_named(settings: BuildSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"\.d\.building: cannot be made: Not a directory"):
        build(replace(settings, output=tmp_path / "file" / "d"))


def test_a_full_disk_is_said_and_the_units_stay(settings: BuildSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("megatron_style_data.atomic.os.fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device\. What is done so far stays there"):
            build(settings)
    assert (path_building(settings.output) / "units").exists()
    build(settings)


def test_a_full_disk_while_writing_the_files_is_said(settings: BuildSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(chunks: object, digest: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("megatron_style_data.build_assembly.BlockDigest.update", full)
    with pytest.raises(StorageError, match=r"dataset\.bin: cannot be written: No space left on device; make room"):
        build(settings)


def test_an_empty_corpus_is_refused(settings: BuildSettings, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "empty.jsonl", ["", "  "])
    with pytest.raises(BadDataError, match=r"empty\.jsonl: the corpus is empty.*2 empty"):
        build(replace(settings, inputs=[str(tmp_path / "empty.jsonl")]))
    assert not list(settings.output.parent.iterdir())


def test_a_corpus_of_one_document_leaves_nothing_to_train_on(settings: BuildSettings, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one.jsonl", ["只有一篇"])
    with pytest.raises(BadDataError, match=r"nothing is left to train on: every document \(1\)"):
        build(replace(settings, inputs=[str(tmp_path / "one.jsonl")]))
    assert not list(settings.output.parent.iterdir())
    manifest = build(replace(settings, inputs=[str(tmp_path / "one.jsonl")], valid_fraction=0)).manifest
    assert manifest.floor is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"workers": 0}, "workers 0: expected at least 1"),
        ({"valid_fraction": 1.0}, r"valid fraction 1\.0"),
        ({"output": Path(".")}, r"\.: names a folder; expected a path with a name"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: BuildSettings, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        build(replace(settings, **change))


def test_a_missing_input_is_named(settings: BuildSettings) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        build(replace(settings, inputs=["nowhere"]))


def test_a_tokenizer_that_changes_during_the_build_is_noticed(settings: BuildSettings, tmp_path: Path) -> None:
    copy = tmp_path / "tokenizer.json"
    copy.write_bytes((Path(settings.tokenizer) / "tokenizer.json").read_bytes())

    def change(progress: BuildProgress) -> None:
        copy.write_bytes(copy.read_bytes() + b" ")

    with pytest.raises(UserError, match=r"tokenizer\.json: the tokenizer changed during the build"):
        build(replace(settings, tokenizer=str(copy)), change)


def test_texts_much_longer_than_a_batch_are_encoded_whole(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_style_data.encoding_units.BATCH_CHARACTERS", 10)
    write_jsonl(tmp_path / "long.jsonl", ["短", "长" * 5000, "短短"])
    build(replace(settings, inputs=[str(tmp_path / "long.jsonl")], valid_fraction=0))
    tokenizer, dataset = load_tokenizer(settings.tokenizer), IndexedDataset.open(settings.output)
    assert tokenizer.decode(dataset.document(1)[:-1].tolist()) == "长" * 5000
    assert np.diff(dataset.document_starts(0, 4)).min() >= 2
