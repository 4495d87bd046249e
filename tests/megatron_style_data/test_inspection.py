"""What is said about a dataset, and its documents as text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.inspection import (
    dataset_tokenizer,
    document_number,
    source_rows,
    split_rows,
    summary_rows,
)
from megatron_style_data.manifest import Floor, Manifest, SourceRecord

DOCUMENTS = [[1, 2, 0], [3, 0], [4, 0], [5, 6, 0]]


@pytest.fixture
def manifest(write_dataset: Callable[..., Any], tmp_path: Path) -> Manifest:
    written: Manifest = write_dataset(tmp_path / "d", DOCUMENTS, splits={"train": 2, "valid": 2})
    return written


def test_documents_are_numbered_in_the_whole_or_in_a_split(manifest: Manifest) -> None:
    assert document_number(manifest, 3, None) == 3
    assert document_number(manifest, 1, "valid") == 3


def test_a_document_that_is_not_there_is_refused(manifest: Manifest) -> None:
    with pytest.raises(SettingError, match="document 4: the dataset has documents 0 to 3"):
        document_number(manifest, 4, None)
    with pytest.raises(SettingError, match="document 2: split valid has documents 0 to 1"):
        document_number(manifest, 2, "valid")


def test_a_split_that_is_not_there_is_refused(manifest: Manifest) -> None:
    with pytest.raises(SettingError, match="the dataset has no test split; it has: train, valid"):
        document_number(manifest, 0, "test")


def test_another_tokenizer_is_not_used_to_read_it(manifest: Manifest, tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="is not the one the dataset was tokenised with"):
        dataset_tokenizer(tmp_path / "d", manifest, tokenizer_folder)


def test_the_summary_says_floor_and_drops(manifest: Manifest) -> None:
    rows = dict(summary_rows(manifest))
    assert rows["floor"] == "not measured: too little text"
    assert rows["dropped"] == "nothing"
    told = replace(
        manifest,
        floor=Floor(8.0, 2.43, 6.0, 1.65, "valid", 5, 5),
        sources=[
            SourceRecord("a", 1, 1, 1, {"empty": 2}, {}),
            SourceRecord("b", 1, 1, 1, {"empty": 1, "not_json": 1}, {}),
        ],
        documents_without_end_of_text=3,
    )
    rows = dict(summary_rows(told))
    assert rows["unigram floor"] == "8.000 nats a token (perplexity 2,981), 2.430 bits a byte on valid"
    assert rows["bigram floor"].endswith("1.650 bits a byte on valid")
    assert rows["dropped"] == "3 empty, 1 not_json"
    assert rows["without end of text"] == "3 documents"
    assert source_rows(told)[1] == ("b", "1", "1", "1", "2")


def test_splits_are_shown_with_their_share(manifest: Manifest) -> None:
    assert split_rows(manifest) == [("train", "2", "5", "15", "50.00 %"), ("valid", "2", "5", "15", "50.00 %")]
