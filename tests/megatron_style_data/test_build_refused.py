"""What a build refuses, and what it never overwrites."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_builds import contents, write_jsonl

from megatron_style_data.build import build
from megatron_style_data.build_folder import path_building
from megatron_style_data.build_settings import BuildProgress, BuildSettings
from megatron_style_data.errors import BadDataError, MissingInputError, SettingError, StorageError, UserError
from megatron_style_data.manifest import load_manifest


def test_an_existing_dataset_is_not_overwritten_unless_forced(settings: BuildSettings) -> None:
    build(settings)
    before = contents(settings.output)
    with pytest.raises(StorageError, match=r"d\.meta\.json: this dataset exists already; .* pass --force"):
        build(replace(settings, seed=5))
    assert contents(settings.output) == before
    assert not path_building(settings.output).exists()
    build(replace(settings, seed=5, force=True))
    assert contents(settings.output) != before


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
