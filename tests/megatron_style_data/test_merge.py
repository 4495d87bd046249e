"""Datasets put together: every document once, in its split, in order; what does not fit is refused by name."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import load_manifest
from megatron_style_data.merge import merge
from megatron_style_data.tokenizer import train_bpe
from megatron_style_data.verify import verify


def documents(prefix: Path, split: str) -> list[list[int]]:
    dataset, splits = IndexedDataset.open(prefix), load_manifest(prefix).splits
    if split not in splits:
        return []
    first, count = splits[split].first_document, splits[split].documents
    return [dataset.document(number).tolist() for number in range(first, first + count)]


@pytest.fixture
def settings(tmp_path: Path, tokenizer_folder: Path) -> BuildSettings:
    return BuildSettings([str(tmp_path / "a.jsonl")], str(tokenizer_folder), tmp_path / "a", valid_fraction=0.1)


@pytest.fixture
def prefixes(settings: BuildSettings, tmp_path: Path, texts: list[str]) -> list[Path]:
    """Two datasets: 40 documents with a test part, and 20 without."""
    for name, part in (("a", texts[:40]), ("b", texts[40:])):
        write(tmp_path / f"{name}.jsonl", part)
    build(replace(settings, test_fraction=0.1))
    build(replace(settings, inputs=[str(tmp_path / "b.jsonl")], output=tmp_path / "b"))
    return [tmp_path / "a", tmp_path / "b"]


def write(path: Path, texts: Sequence[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def test_documents_stay_in_their_splits_in_the_order_of_the_datasets(prefixes: list[Path], tmp_path: Path) -> None:
    manifest = merge(prefixes, tmp_path / "both")
    verify(tmp_path / "both")
    for split in ("train", "valid", "test"):
        assert documents(tmp_path / "both", split) == documents(prefixes[0], split) + documents(prefixes[1], split)
    assert manifest == load_manifest(tmp_path / "both")
    assert (manifest.origin, manifest.settings) == ("merged", {"merged": "a, b"})


def test_counts_of_splits_and_sources_are_those_of_the_parts(prefixes: list[Path], tmp_path: Path) -> None:
    parts = [load_manifest(prefix) for prefix in prefixes]
    both = merge(prefixes, tmp_path / "both")
    assert both.utf8_bytes == sum(part.utf8_bytes for part in parts)
    assert both.splits["valid"].utf8_bytes == sum(part.splits["valid"].utf8_bytes for part in parts)
    assert [source.name for source in both.sources] == ["a.jsonl", "b.jsonl"]
    assert both.floor is not None


def test_sources_of_one_name_are_told_apart(
    prefixes: list[Path], settings: BuildSettings, tmp_path: Path, texts: list[str]
) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "a.jsonl", texts[:9])
    build(replace(settings, inputs=[str(tmp_path / "other" / "a.jsonl")], output=tmp_path / "c"))
    sources = merge([prefixes[0], tmp_path / "c"], tmp_path / "both").sources
    assert [source.name for source in sources] == ["a/a.jsonl", "c/a.jsonl"]


def test_a_merge_of_merges_is_the_merge_of_all(prefixes: list[Path], settings: BuildSettings, tmp_path: Path) -> None:
    build(replace(settings, seed=5, output=tmp_path / "c"))
    merge(prefixes, tmp_path / "ab")
    merge([tmp_path / "ab", tmp_path / "c"], tmp_path / "ab_c")
    merge([*prefixes, tmp_path / "c"], tmp_path / "abc")
    for suffix in (".bin", ".idx"):
        assert Path(f"{tmp_path}/ab_c{suffix}").read_bytes() == Path(f"{tmp_path}/abc{suffix}").read_bytes()


def test_another_tokenizer_is_refused_by_name(
    prefixes: list[Path], settings: BuildSettings, tmp_path: Path, texts: list[str]
) -> None:
    train_bpe(texts[:10], 380, tmp_path / "other")
    build(replace(settings, tokenizer=str(tmp_path / "other"), output=tmp_path / "c"))
    with pytest.raises(BadDataError, match=r"c: was tokenised with other \(fingerprint .{12}\), but .*a with .*small"):
        merge([prefixes[0], tmp_path / "c"], tmp_path / "both")
    assert not (tmp_path / "both.bin").exists()


def test_another_end_of_text_is_refused_by_name(prefixes: list[Path], settings: BuildSettings, tmp_path: Path) -> None:
    build(replace(settings, end_of_text="<|im_end|>", output=tmp_path / "c"))
    with pytest.raises(
        BadDataError, match=r"c: its documents end with <\|im_end\|>, those of .*a with <\|endoftext\|>"
    ):
        merge([prefixes[0], tmp_path / "c"], tmp_path / "both")


def test_another_type_of_tokens_is_refused_by_name(
    prefixes: list[Path], settings: BuildSettings, tmp_path: Path
) -> None:
    build(replace(settings, dtype="int32", output=tmp_path / "c"))
    with pytest.raises(BadDataError, match=r"c: holds int32 tokens, .*a uint16; .* --dtype"):
        merge([prefixes[0], tmp_path / "c"], tmp_path / "both")


def test_one_dataset_or_the_same_twice_is_refused(prefixes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="expected two datasets or more"):
        merge(prefixes[:1], tmp_path / "both")
    with pytest.raises(SettingError, match=r"a: is named twice"):
        merge([prefixes[0], tmp_path / "." / "a"], tmp_path / "both")


def test_an_output_that_exists_is_replaced_only_when_forced(prefixes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"b\.meta\.json: this dataset exists already"):
        merge(prefixes, prefixes[1])
    merge(prefixes, prefixes[1], force=True)
    assert load_manifest(prefixes[1]).documents == 60
