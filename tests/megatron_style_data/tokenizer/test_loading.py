"""A path means one tokenizer file, or an error says what was looked for."""

from pathlib import Path

import pytest

from megatron_style_data.errors import MissingInputError, SettingError
from megatron_style_data.tokenizer import load_tokenizer
from megatron_style_data.tokenizer.loading import find_tokenizer_file


def test_a_folder_means_its_tokenizer_json(bpe_folder: Path) -> None:
    assert find_tokenizer_file(bpe_folder) == bpe_folder / "tokenizer.json"
    assert load_tokenizer(bpe_folder).fingerprint == load_tokenizer(bpe_folder / "tokenizer.json").fingerprint


def test_a_folder_of_sentencepiece_training_means_its_model(sentencepiece_folder: Path) -> None:
    assert find_tokenizer_file(sentencepiece_folder) == sentencepiece_folder / "tokenizer.model"


def test_a_folder_with_both_made_elsewhere_means_its_tokenizer_json(
    bpe_folder: Path, sentencepiece_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((bpe_folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer.model").write_bytes((sentencepiece_folder / "tokenizer.model").read_bytes())
    assert find_tokenizer_file(tmp_path).name == "tokenizer.json"


def test_a_folder_with_one_model_means_that(sentencepiece_folder: Path, tmp_path: Path) -> None:
    content = (sentencepiece_folder / "tokenizer.model").read_bytes()
    (tmp_path / "spm.model").write_bytes(content)
    assert load_tokenizer(tmp_path).kind == "sentencepiece"
    (tmp_path / "other.model").write_bytes(content)
    with pytest.raises(
        MissingInputError, match=r"holds no tokenizer\.json and 2 \.model files; name the tokenizer file"
    ):
        load_tokenizer(tmp_path)


def test_nothing_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        MissingInputError, match=r"gone: no such file or folder; .*\(`zhgpt tokenizer train` makes one\)"
    ):
        load_tokenizer(tmp_path / "gone")
    with pytest.raises(MissingInputError, match=r"holds no tokenizer\.json and 0 \.model files"):
        load_tokenizer(tmp_path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a")
    with pytest.raises(
        SettingError, match=r"vocab\.txt: not a tokenizer file; expected tokenizer\.json or a sentencepiece"
    ):
        load_tokenizer(tmp_path / "vocab.txt")
