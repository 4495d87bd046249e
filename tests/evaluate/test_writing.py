"""A model's texts beside held-out ones, in numbers."""

from pathlib import Path

import pytest
from tiny import Tiny
from written_dataset import write_dataset

from megatron_style_data.errors import BadDataError
from megatron_style_data.inspection import dataset_tokenizer
from megatron_style_data.manifest import TokenizerRecord, load_manifest
from zhgpt.evaluate.text_statistics import text_statistics
from zhgpt.evaluate.writing import MEASURES, Comparison, compare, held_out_passages, held_out_texts, writing_of

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


def test_held_out_texts_are_documents_from_their_beginning(tiny: Tiny, tmp_path: Path) -> None:
    recorded: TokenizerRecord = load_manifest(tiny.prefix).tokenizer
    tokenizer = dataset_tokenizer(tiny.prefix, load_manifest(tiny.prefix), None)
    end = tokenizer.end_of_text_id
    ids = tokenizer.encode_batch(["话说天下大势，分久必合，合久必分。", "玄德曰：善。"])
    documents = [[5, end], [*ids[0], end], [*ids[1], end], [*ids[1], end], [*ids[0], end]]
    write_dataset(tmp_path / "d", documents, splits={"train": 1, "valid": 4}, tokenizer=recorded, end_of_text_id=end)
    cut = tokenizer.decode(ids[0][:6])
    assert held_out_texts(tmp_path / "d", tokenizer, 10, 100) == [
        "话说天下大势，分久必合，合久必分。",
        "玄德曰：善。",
        "玄德曰：善。",
        "话说天下大势，分久必合，合久必分。",
    ]
    assert held_out_texts(tmp_path / "d", tokenizer, 2, 6) == [cut, tokenizer.decode(ids[1][:6])]


def test_inside_a_document_held_out_text_begins_with_a_line_of_its_middle(tiny: Tiny, tmp_path: Path) -> None:
    recorded: TokenizerRecord = load_manifest(tiny.prefix).tokenizer
    tokenizer = dataset_tokenizer(tiny.prefix, load_manifest(tiny.prefix), None)
    end = tokenizer.end_of_text_id
    title, line, last = "作者：罗贯中\n" * 3, "话说天下大势，分久必合，合久必分。\n", "玄德曰：善。"
    texts = [title + line + last, title + line * 9, "玄德曰：" * 20, last]
    documents = [[5, end], *([*ids, end] for ids in tokenizer.encode_batch(texts))]
    write_dataset(tmp_path / "d", documents, splits={"train": 1, "valid": 4}, tokenizer=recorded, end_of_text_id=end)
    tokens = len(tokenizer.encode_batch([line])[0])
    found = held_out_texts(tmp_path / "d", tokenizer, 4, tokens, inside=True)
    assert found[0] == line, "the title's last line is the middle"
    assert found[1] == line
    assert len(found[2]) > 10
    assert found[2] != "玄德曰：" * 20, "a document of one line is cut"
    assert found[2] in texts[2], "it begins in the middle, and in no character's middle"
    assert found[3] == last, "a document that is not long enough is taken whole"


def test_a_passage_is_cut_between_characters_and_put_together_is_the_text(tiny: Tiny, tmp_path: Path) -> None:
    recorded: TokenizerRecord = load_manifest(tiny.prefix).tokenizer
    tokenizer = dataset_tokenizer(tiny.prefix, load_manifest(tiny.prefix), None)
    end = tokenizer.end_of_text_id
    rare = "龘靐齉爩" * 8  # each of several tokens of bytes
    ids = tokenizer.encode_batch([rare, "玄德曰：\n" * 9, "善"])
    documents = [[5, end], *([*one, end] for one in ids)]
    write_dataset(tmp_path / "d", documents, splits={"train": 1, "valid": 3}, tokenizer=recorded, end_of_text_id=end)
    assert len(ids[0]) > 2 * len(rare)
    for tokens in range(3, 12):
        first, second = held_out_passages(tmp_path / "d", tokenizer, 3, tokens, 10_000)
        assert first.prompt + first.continuation == rare
        assert set(first.prompt) <= set(rare)
        assert (second.prompt + second.continuation)[:5] == "玄德曰：\n"
    (inside, *_) = held_out_passages(tmp_path / "d", tokenizer, 1, 8, 8, inside=True)
    assert inside.prompt
    assert set(inside.prompt) <= set(rare), "it begins in no character's middle"


def test_a_dataset_without_held_out_text_is_named(tiny: Tiny, tmp_path: Path) -> None:
    recorded: TokenizerRecord = load_manifest(tiny.prefix).tokenizer
    tokenizer = dataset_tokenizer(tiny.prefix, load_manifest(tiny.prefix), None)
    write_dataset(tmp_path / "all", [[5, 6]], tokenizer=recorded)
    with pytest.raises(BadDataError, match=r"all: the dataset has no valid split"):
        held_out_texts(tmp_path / "all", tokenizer, 5, 40)
