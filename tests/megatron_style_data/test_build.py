"""What a build makes: every document once, in order, held out by its text, the same bytes however it is done."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_builds import contents, write_jsonl

from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildProgress, BuildSettings
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import load_manifest
from megatron_style_data.tokenizer import load_tokenizer


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


def test_texts_much_longer_than_a_batch_are_encoded_whole(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megatron_style_data.encoding_units.BATCH_CHARACTERS", 10)
    write_jsonl(tmp_path / "long.jsonl", ["短", "长" * 5000, "短短"])
    build(replace(settings, inputs=[str(tmp_path / "long.jsonl")], valid_fraction=0))
    tokenizer, dataset = load_tokenizer(settings.tokenizer), IndexedDataset.open(settings.output)
    assert tokenizer.decode(dataset.document(1)[:-1].tolist()) == "长" * 5000
    assert np.diff(dataset.document_starts(0, 4)).min() >= 2


def test_a_tokenizer_named_from_the_working_directory_is_found_from_any_other(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(settings.tokenizer, tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    manifest = build(replace(settings, tokenizer="tokenizer", output=Path("sets/zh"))).manifest
    assert manifest.tokenizer.path == "../tokenizer"
    monkeypatch.chdir("/")
    assert manifest.tokenizer_path(tmp_path / "sets/zh").samefile(tmp_path / "tokenizer")
