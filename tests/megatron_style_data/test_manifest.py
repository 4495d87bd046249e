"""The manifest: read back as written, and refused with the reason when anything about it is wrong."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.errors import BadDataError, MissingInputError, StorageError
from megatron_style_data.manifest import (
    Floor,
    Manifest,
    SourceRecord,
    check_tokenizer,
    load_manifest,
    manifest_bytes,
    path_manifest,
)

DOCUMENTS = [[1, 2, 0], [3, 0], [4, 0], [5, 6, 0]]


@dataclass(frozen=True)
class Identity:
    fingerprint: str
    end_of_text_id: int


@pytest.fixture
def manifest(write_dataset: Callable[..., Any], tmp_path: Path) -> Manifest:
    written: Manifest = write_dataset(tmp_path / "d", DOCUMENTS, splits={"train": 2, "valid": 1, "test": 1})
    return replace(
        written,
        sources=[SourceRecord("法律.jsonl", 4, 10, 30, {"empty": 2}, {"line_ends": 3})],
        settings={"seed": 3, "text_field": None, "valid_fraction": 0.25},
        floor=Floor(8.0, 2.4, 6.0, 1.6, "valid", 2, 5),
    )


@pytest.fixture
def prefix(manifest: Manifest, tmp_path: Path) -> Path:
    path_manifest(tmp_path / "d").write_bytes(manifest_bytes(manifest))
    return tmp_path / "d"


def test_what_was_written_is_read_back(prefix: Path, manifest: Manifest) -> None:
    assert load_manifest(prefix) == manifest
    assert "法律.jsonl" in path_manifest(prefix).read_text("utf-8")


def test_tokens_per_byte_turn_a_loss_into_bits_per_byte(manifest: Manifest) -> None:
    assert manifest.splits["valid"].tokens_per_byte == 2 / 6


def test_the_fingerprint_changes_with_what_decides_the_samples_and_nothing_else(manifest: Manifest) -> None:
    assert replace(manifest, floor=None, sources=[], settings={}).fingerprint == manifest.fingerprint
    other_tokens = replace(manifest, checksums=replace(manifest.checksums, bin="0" * 32))
    other_splits = replace(manifest, splits={"train": manifest.splits["train"]})
    other_tokenizer = replace(manifest, tokenizer=replace(manifest.tokenizer, fingerprint="0" * 64))
    assert (
        len({manifest.fingerprint, *(other.fingerprint for other in (other_tokens, other_splits, other_tokenizer))})
        == 4
    )


def test_the_tokenizer_of_the_dataset_is_accepted(manifest: Manifest) -> None:
    check_tokenizer(manifest, Identity("f" * 64, 0))


def test_another_tokenizer_is_refused_with_both_fingerprints(manifest: Manifest) -> None:
    with pytest.raises(BadDataError, match=f"{'a' * 64}.*{'f' * 64}, then at tokenizer"):
        check_tokenizer(manifest, Identity("a" * 64, 0))


def test_another_end_of_text_is_refused(manifest: Manifest) -> None:
    with pytest.raises(BadDataError, match=r"end-of-text token 7, but documents of the dataset end with 0"):
        check_tokenizer(manifest, Identity("f" * 64, 7))


def test_the_tokenizer_is_found_beside_the_dataset_then_as_given(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "tokenizer").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    assert manifest.tokenizer_path(tmp_path / "d") == Path("tokenizer")
    (tmp_path / "tokenizer").mkdir()
    assert manifest.tokenizer_path(tmp_path / "d") == tmp_path / "tokenizer"


def test_a_tokenizer_that_is_nowhere_is_named_with_the_places(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"d\.meta\.json: its tokenizer tokenizer is not there \(looked for "):
        manifest.tokenizer_path(tmp_path / "d")


def test_no_dataset_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nothing\.meta\.json: no such file\. .*nothing is not the prefix"):
        load_manifest(tmp_path / "nothing")


def test_files_without_manifest_are_an_unfinished_build_or_from_elsewhere(prefix: Path) -> None:
    path_manifest(prefix).unlink()
    with pytest.raises(MissingInputError, match=r"an unfinished build .* or files made elsewhere \(`zhgpt data adopt`"):
        load_manifest(prefix)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path_manifest(tmp_path / "d").mkdir()
    with pytest.raises(StorageError, match=r"d\.meta\.json: cannot be read: Is a directory"):
        load_manifest(tmp_path / "d")


def test_a_truncated_manifest_is_refused(prefix: Path) -> None:
    path_manifest(prefix).write_bytes(path_manifest(prefix).read_bytes()[:-20])
    with pytest.raises(BadDataError, match=r"d\.meta\.json: not valid JSON .*damaged or truncated"):
        load_manifest(prefix)


def rewrite(prefix: Path, **changes: Any) -> None:
    content = json.loads(path_manifest(prefix).read_bytes())
    path_manifest(prefix).write_text(json.dumps(content | changes), "utf-8")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "other"}, 'not a dataset manifest; expected JSON with "format": "zhgpt-dataset"'),
        ({"version": 2}, "manifest version 2, but this zhgpt reads version 1"),
        ({"tokens": 11}, "does not have the SHA-256 it names; it was damaged or changed by hand"),
    ],
)
def test_a_changed_manifest_is_refused(prefix: Path, changes: dict[str, Any], sentence: str) -> None:
    rewrite(prefix, **changes)
    with pytest.raises(BadDataError, match=sentence):
        load_manifest(prefix)


def test_json_that_is_no_object_is_refused(prefix: Path) -> None:
    path_manifest(prefix).write_text("[1]", "utf-8")
    with pytest.raises(BadDataError, match="not a dataset manifest"):
        load_manifest(prefix)


def test_a_field_of_the_wrong_kind_is_named(prefix: Path, manifest: Manifest) -> None:
    from megatron_style_data import manifest as module

    content = json.loads(path_manifest(prefix).read_bytes())
    content["splits"]["train"]["tokens"] = "5"
    body = {key: value for key, value in content.items() if key not in {"format", "version", "sha256"}}
    rewrite(prefix, splits=content["splits"], sha256=module._digest(body))
    with pytest.raises(BadDataError, match=r"d\.meta\.json: splits\.train\.tokens: .*integer"):
        load_manifest(prefix)


def test_splits_with_a_gap_are_refused(prefix: Path, manifest: Manifest) -> None:
    gap = {**manifest.splits, "valid": replace(manifest.splits["valid"], first_token=6)}
    path_manifest(prefix).write_bytes(manifest_bytes(replace(manifest, splits=gap)))
    with pytest.raises(BadDataError, match="split valid starts at document 2 and token 6, expected 2 and 5"):
        load_manifest(prefix)


def test_splits_that_are_not_the_whole_dataset_are_refused(prefix: Path, manifest: Manifest) -> None:
    path_manifest(prefix).write_bytes(manifest_bytes(replace(manifest, splits={"train": manifest.splits["train"]})))
    with pytest.raises(BadDataError, match="its splits hold 2 documents and 5 tokens, the dataset 4 and 10"):
        load_manifest(prefix)
