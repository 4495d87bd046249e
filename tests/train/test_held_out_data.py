"""Which text a run is evaluated on."""

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import write_synthetic

from megatron_style_data.manifest import load_manifest
from zhgpt.config.data_section import DataSection
from zhgpt.config.schema import EvaluateSection
from zhgpt.errors import BadDataError, MissingInputError, SettingError
from zhgpt.train.held_out_data import HeldOutSplit, held_out_splits
from zhgpt.train.training_data import TrainingData, read_training_data

LENGTH = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three datasets of one tokenizer; wiki has no valid split."""
    folder = tmp_path_factory.mktemp("held-out")
    write_synthetic(folder / "web", 40_000, seed=1, valid_tokens=1_000, bytes_per_token=4)
    write_synthetic(folder / "wiki", 10_000, seed=2, bytes_per_token=5)
    write_synthetic(folder / "books", 2_500, seed=3, valid_tokens=500, bytes_per_token=2)
    return folder


def read(folder: Path, *names: str) -> TrainingData:
    section = DataSection.model_validate(
        {"blend": [{"data": f"{folder}/{name}", "weight": 1} for name in names], "sequence_length": LENGTH}
    )
    return read_training_data(section, steps=50, samples_before=lambda step: 20 * step)


def chosen(folder: Path, data: dict[str, str], *names: str) -> tuple[HeldOutSplit, ...]:
    return held_out_splits(read(folder, *names), EvaluateSection(data=data))


def test_every_valid_split_is_held_out_under_its_name(folder: Path) -> None:
    splits = chosen(folder, {}, "web", "wiki", "books")
    assert [(split.name, split.utf8_bytes) for split in splits] == [("web", 4_000), ("books", 1_000)]
    assert splits[1].open(LENGTH).tokens == 500


def test_other_datasets_are_evaluated_whole_in_place_of_the_valid_splits(folder: Path) -> None:
    splits = chosen(folder, {"novels": f"{folder}/books"}, "web")
    assert [(split.name, split.split, split.utf8_bytes) for split in splits] == [
        ("novels", "train", 5_000),
        ("novels", "valid", 1_000),
    ]


def test_a_dataset_that_is_trained_on_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match=r"evaluate.data.dev: .*/web is the dataset .*/web that is trained on"):
        chosen(folder, {"dev": f"{folder}/web"}, "web")


def test_a_dataset_of_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    record = load_manifest(folder / "web").tokenizer
    other = replace(record, path="old-tokenizer", fingerprint="0" * 64)
    write_synthetic(tmp_path / "dev", 1_000, seed=9, tokenizer=other)
    with pytest.raises(BadDataError, match=r"/web and .*/dev were tokenised with different tokenizers"):
        chosen(folder, {"dev": f"{tmp_path}/dev"}, "web")


def test_a_missing_dataset_is_named(folder: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        chosen(folder, {"dev": f"{folder}/nowhere"}, "web")
