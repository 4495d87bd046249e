"""Repetition and punctuation of generated text."""

import pytest

from zhgpt.evaluate.text_statistics import text_statistics


def test_a_text_of_quotation_marks_is_seen_for_what_it_is() -> None:
    found = text_statistics("“”“”“”“”")
    assert found["punctuation_share"] == 1.0
    assert found["distinct_1"] == pytest.approx(2 / 8)
    assert found["distinct_2"] == pytest.approx(2 / 7)
    assert found["distinct_3"] == pytest.approx(2 / 6)
    assert found["repeated_4gram_share"] == 1.0


def test_a_healthy_sentence_repeats_nothing() -> None:
    found = text_statistics("村民们都很高兴，在山上种了树。")
    assert found["distinct_2"] == found["distinct_3"] == 1.0
    assert found["repeated_4gram_share"] == 0.0
    assert found["punctuation_share"] == pytest.approx(2 / 15)


@pytest.mark.parametrize("mark", list("，。、；：？！“”‘’「」『』《》〈〉（）【】…—·.,;:?!\"'()"))
def test_chinese_and_ascii_marks_count_as_punctuation(mark: str) -> None:
    assert text_statistics(f"字{mark}")["punctuation_share"] == 0.5


def test_repeated_4grams_count_every_occurrence() -> None:
    """甲乙丙丁 twice among five 4-grams."""
    assert text_statistics("甲乙丙丁甲乙丙丁")["repeated_4gram_share"] == pytest.approx(2 / 5)


def test_white_space_does_not_count() -> None:
    assert text_statistics("甲 乙\n丙\u3000丁") == text_statistics("甲乙丙丁")


@pytest.mark.parametrize("text", ["", " \n", "甲"])
def test_texts_too_short_for_an_ngram_have_neutral_values(text: str) -> None:
    found = text_statistics(text)
    assert found["distinct_3"] == 1.0
    assert found["repeated_4gram_share"] == 0.0
    assert found["punctuation_share"] == 0.0
