"""A build that is interrupted: whole or not at all, gone on with where it was safe, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from processes import alive, children
from small_builds import contents, write_jsonl

from megatron_style_data.build import build
from megatron_style_data.build_folder import path_building
from megatron_style_data.build_settings import BuildProgress, BuildSettings
from megatron_style_data.errors import BadDataError, MissingInputError, StorageError, UserError
from megatron_style_data.manifest import load_manifest
from megatron_style_data.publish import publish
from megatron_style_data.readers import ReadOptions


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


def test_an_old_dataset_stays_whole_until_the_forced_build_is_done(settings: BuildSettings) -> None:
    build(settings)
    before = contents(settings.output)
    with pytest.raises(InterruptionError):
        build(replace(settings, seed=5, force=True), interrupt_at("measuring"))
    assert contents(settings.output) == before
    load_manifest(settings.output)


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
import sys, time
from pathlib import Path
from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
inputs, tokenizer, output = sys.argv[1:]
build(
    BuildSettings([inputs], tokenizer, Path(output), workers=2, valid_fraction=0.1),
    lambda progress: time.sleep(0.3 if progress.stage == "encoding" else 0),  # a terminal that is slow to print
)
"""


@pytest.fixture
def slow_build(settings: BuildSettings, tmp_path: Path, texts: list[str]) -> Sequence[str]:
    """A command that encodes with two workers for some seconds, however fast the machine is."""
    write_jsonl(tmp_path / "corpus" / "large.jsonl", ["".join(texts)[:3000] + str(number) for number in range(4000)])
    return [sys.executable, "-c", SCRIPT, settings.inputs[0], settings.tokenizer, str(settings.output)]


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_leaves_no_process_and_nothing_that_looks_finished(
    slow_build: Sequence[str], settings: BuildSettings, ended_by: signal.Signals
) -> None:
    process = subprocess.Popen(
        slow_build,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # tests in the background inherit that it is ignored
    )
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
