"""A dataset cut anew: the same documents, others held out; or two datasets of one."""

import json
from pathlib import Path

import pytest

from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.errors import SettingError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import load_manifest
from megatron_style_data.merge import merge
from megatron_style_data.recut import RecutSettings, cut_in_two, hold_out_anew
from megatron_style_data.verify import verify


def documents(prefix: Path, split: str | None = None) -> list[list[int]]:
    dataset, manifest = IndexedDataset.open(prefix), load_manifest(prefix)
    first, count = (0, len(dataset))
    if split is not None:
        first, count = manifest.splits[split].first_document, manifest.splits[split].documents  # type: ignore[index]
    return [dataset.document(number).tolist() for number in range(first, first + count)]


@pytest.fixture
def settings(tmp_path: Path, tokenizer_folder: Path, texts: list[str]) -> RecutSettings:
    """A dataset of 60 documents and a repeated one, 10 % of them valid."""
    lines = [json.dumps({"text": text}) + "\n" for text in [*texts, texts[3]]]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    build(BuildSettings([str(tmp_path / "a.jsonl")], str(tokenizer_folder), tmp_path / "a", valid_fraction=0.1))
    return RecutSettings(tmp_path / "a", tmp_path / "b")


def test_other_documents_are_held_out_and_none_is_lost(settings: RecutSettings) -> None:
    manifest = hold_out_anew(settings, 0.2, 0.1)
    verify(settings.output)
    assert sorted(documents(settings.output)) == sorted(documents(settings.prefix))
    assert manifest.splits["valid"].documents in (13, 14)
    assert manifest.splits["test"].documents in (7, 8)
    train, valid = documents(settings.output, "train"), documents(settings.output, "valid")
    assert not [document for document in valid if document in train]
    assert (manifest.origin, manifest.settings["split_of"], manifest.settings["valid_fraction"]) == ("split", "a", 0.2)


def test_bytes_of_each_split_are_those_of_its_texts(
    settings: RecutSettings, tokenizer_folder: Path, texts: list[str]
) -> None:
    from megatron_style_data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    manifest = hold_out_anew(settings, 0.2, 0.0)
    for name, split in manifest.splits.items():
        found = sum(len(tokenizer.decode(ids[:-1]).encode()) for ids in documents(settings.output, name))
        assert split.utf8_bytes == found
    assert manifest.utf8_bytes == load_manifest(settings.prefix).utf8_bytes


def test_the_choice_depends_on_the_seed_and_on_nothing_else(settings: RecutSettings, tmp_path: Path) -> None:
    hold_out_anew(settings, 0.2, 0.0)
    hold_out_anew(RecutSettings(settings.output, tmp_path / "again"), 0.2, 0.0)
    assert sorted(documents(tmp_path / "again", "valid")) == sorted(documents(settings.output, "valid"))
    hold_out_anew(RecutSettings(settings.prefix, tmp_path / "c", seed=1), 0.2, 0.0)
    assert sorted(documents(tmp_path / "c", "valid")) != sorted(documents(settings.output, "valid"))


def test_a_dataset_can_be_cut_anew_in_place(settings: RecutSettings) -> None:
    before = documents(settings.prefix)
    hold_out_anew(RecutSettings(settings.prefix, settings.prefix, force=True), 0.0, 0.0)
    verify(settings.prefix)
    assert list(load_manifest(settings.prefix).splits) == ["train"]
    assert sorted(documents(settings.prefix)) == sorted(before)


@pytest.mark.parametrize("first", [5, 40])
def test_two_parts_have_all_of_train_once_and_both_what_is_held_out(
    settings: RecutSettings, tmp_path: Path, first: int
) -> None:
    before = load_manifest(settings.prefix)
    manifests = cut_in_two(settings, first, tmp_path / "c")
    for prefix in (settings.output, tmp_path / "c"):
        verify(prefix)
        assert documents(prefix, "valid") == documents(settings.prefix, "valid")
    train = documents(settings.prefix, "train")
    assert documents(settings.output, "train") == train[:first]
    assert documents(tmp_path / "c", "train") == train[first:]
    assert sum(manifest.splits["train"].utf8_bytes for manifest in manifests) == before.splits["train"].utf8_bytes
    assert manifests[0].sources[0].name == f"a, documents 0 to {first - 1} of train"


def test_parts_merge_to_the_whole_again(settings: RecutSettings, tmp_path: Path) -> None:
    cut_in_two(settings, 9, tmp_path / "c")
    merge([settings.output, tmp_path / "c"], tmp_path / "whole")
    assert documents(tmp_path / "whole", "train") == documents(settings.prefix, "train")


def test_cuts_that_cannot_be_are_refused(settings: RecutSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--documents 54: .*a has 54 documents of train; expected 1 to 53"):
        cut_in_two(settings, 54, tmp_path / "c")
    with pytest.raises(SettingError, match=r"b: is named for both parts"):
        cut_in_two(settings, 5, settings.output)
    with pytest.raises(SettingError, match=r"valid fraction 1\.5"):
        hold_out_anew(settings, 1.5, 0.0)
