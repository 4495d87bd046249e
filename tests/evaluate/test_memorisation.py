"""Copies of the training text in what a model writes."""

import random

import pytest
from tiny import Tiny

from megatron_style_data.samples import open_split
from megatron_style_data.tokenizer import load_tokenizer
from zhgpt.evaluate.memorisation import copied_share, training_passages, windows_of


def some_text(length: int, seed: int) -> str:
    draw = random.Random(seed)
    return "".join(draw.choice("天下大势分久必合🀄") for _ in range(length))


def test_a_text_has_a_window_for_every_start_that_leaves_room() -> None:
    assert windows_of(["abcd", "ab"], 3) == ["abc", "bcd"]


def test_the_share_is_that_of_a_plain_search() -> None:
    passages = [some_text(2000, seed) for seed in range(3)]
    copied, own = passages[1][700:760], some_text(50, 99)
    texts = [own[:25] + copied + own[25:], own, passages[2][-40:]]
    windows = windows_of(texts)
    plain = sum(any(window in passage for passage in passages) for window in windows) / len(windows)
    assert copied_share(texts, passages) == plain
    assert 0 < plain < 1


def test_texts_shorter_than_a_window_have_no_share() -> None:
    assert copied_share(["短"], [some_text(100, 0)]) is None


def test_equal_hashes_of_other_text_are_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhgpt.evaluate.memorisation._BASE", 0)  # every window that begins alike has one hash
    monkeypatch.setattr("zhgpt.evaluate.memorisation._INVERSE", 1)
    assert copied_share(["甲" + "乙" * 40], ["甲" + "丙" * 40]) == 0


def test_the_training_text_is_read_whole_where_it_is_small(tiny: Tiny) -> None:
    tokenizer = load_tokenizer(tiny.tokenizer)
    dataset, _, split = open_split(tiny.prefix, "train")
    passages = list(training_passages([str(tiny.prefix)], tokenizer, 10**9))
    assert "".join(passages) == tokenizer.decode(dataset.tokens[split.first_token :][: split.tokens].tolist())
    document = tokenizer.decode(dataset.document(split.first_document + 1)[:60].tolist())
    assert copied_share([document], passages) == 1
