"""A model's texts beside held-out ones, in numbers."""

from pathlib import Path

import pytest
from tiny import Tiny
from written_dataset import write_dataset

from megatron_style_data.errors import BadDataError
from megatron_style_data.inspection import dataset_tokenizer
from megatron_style_data.manifest import TokenizerRecord, load_manifest
from megatron_style_data.samples import open_split
from zhgpt.evaluate.text_statistics import text_statistics
from zhgpt.evaluate.writing import MEASURES, Comparison, compare, held_out_texts, writing_of

PROSE = "却说曹操引军追赶，玄德大败而走，正行之间，前面一彪军马拦住去路。"
QUOTES = "“”" * 20


def test_measures_are_means_over_the_texts_that_are_long_enough() -> None:
    found = writing_of([PROSE, QUOTES, "短"])
    assert found is not None
    assert (found.texts, found.characters) == (2, (len(PROSE) + len(QUOTES)) / 2)
    for name in MEASURES:
        assert found.measures[name] == (text_statistics(PROSE)[name] + text_statistics(QUOTES)[name]) / 2
    assert found.copied_share is None
    assert writing_of(["短", ""]) is None


def test_copies_are_looked_for_in_the_passages() -> None:
    found = writing_of([PROSE], ["且说" + PROSE + "未知性命如何。"])
    assert found is not None
    assert found.copied_share == 1


def test_alike_is_within_a_fifth_of_the_held_out_value() -> None:
    assert Comparison("punctuation_share", 0.119, 0.1).is_alike
    assert not Comparison("punctuation_share", 0.13, 0.1).is_alike
    assert not Comparison("punctuation_share", 0.07, 0.1).is_alike
    assert Comparison("repeated_4gram_share", 0.0, 0.0).is_alike
    assert Comparison("repeated_4gram_share", 0.1, 0.0).ratio is None
    prose, quotes = writing_of([PROSE]), writing_of([QUOTES])
    assert prose is not None
    assert quotes is not None
    assert all(one.is_alike for one in compare(prose, prose))
    assert not any(one.is_alike for one in compare(quotes, prose))


def test_held_out_texts_are_windows_of_the_valid_split_that_end_with_their_document(tiny: Tiny) -> None:
    tokenizer = dataset_tokenizer(tiny.prefix, load_manifest(tiny.prefix), None)
    dataset, _, split = open_split(tiny.prefix, "valid")
    texts = held_out_texts(tiny.prefix, tokenizer, 5, 40)
    assert len(texts) == 5
    whole = tokenizer.decode(dataset.tokens[split.first_token :][: split.tokens].tolist())
    assert all(tokenizer.end_of_text not in text and text.strip("\ufffd") in whole for text in texts)
    last = dataset.tokens[split.first_token + split.tokens - 40 : split.first_token + split.tokens]
    assert last[-1] == tokenizer.end_of_text_id  # a window over the end is cut there
    assert len(held_out_texts(tiny.prefix, tokenizer, 10**6, 40)) == split.tokens // 40


def test_a_valid_split_shorter_than_one_text_is_named(tiny: Tiny, tmp_path: Path) -> None:
    recorded: TokenizerRecord = load_manifest(tiny.prefix).tokenizer
    write_dataset(tmp_path / "short", [[5] * 30, [5] * 9], splits={"train": 1, "valid": 1}, tokenizer=recorded)
    tokenizer = dataset_tokenizer(tiny.prefix, load_manifest(tiny.prefix), None)
    with pytest.raises(BadDataError, match=r"short: its valid split has 9 tokens, less than one text of 40; build"):
        held_out_texts(tmp_path / "short", tokenizer, 5, 40)
