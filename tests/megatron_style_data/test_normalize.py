"""Normalisation changes what must be one thing, counts it, and leaves Chinese typography alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.normalize import CHANGES, normalize

# Also what hypothesis leaves out by default: surrogates, in pairs and alone, and control characters.
ANY_TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\r\n\t\x00\ufeff\ud83d\ude00\u0301e한\u2028")
)


@given(ANY_TEXT)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalize(text)
    twice = normalize(once.text)
    assert twice.text == once.text
    assert twice.changes == {}


@given(ANY_TEXT)
def test_the_result_is_utf8_in_nfc_without_controls(text: str) -> None:
    result = normalize(text).text
    assert result.encode("utf-8").decode("utf-8") == result
    assert unicodedata.is_normalized("NFC", result)
    assert all(unicodedata.category(character) != "Cc" or character in "\n\t" for character in result)


@given(ANY_TEXT)
def test_a_text_is_changed_exactly_when_a_change_is_counted(text: str) -> None:
    result = normalize(text)
    assert (result.text != text) == bool(result.changes)
    assert set(result.changes) <= set(CHANGES)


@pytest.mark.parametrize(
    "text",
    [
        "“你好”，他说：《三国》（第１回）……——、；！？",  # full-width punctuation and digits
        "\u3000\u3000第一段\n\n第二段 \u00a0end",  # ideographic and no-break spaces
        "葛\U000e0100 𠀀 👩‍👩‍👧 \u200b 한국 é",  # variation selector, joiner, zero-width space, composed
        "\ufffd stays, it says that something was lost before",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert normalize(text).text == text
    assert normalize(text).changes == {}


@pytest.mark.parametrize(
    ("text", "expected", "changes"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd", {"line_ends": 2}),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf", {"line_ends": 5}),
        ("\ufeff村\ufeff", "村", {"byte_order_marks": 2}),
        ("a\x00\x1b[0m\x7f\x9f\ufffe\ufdd0b\tc", "a[0mb\tc", {"control_characters": 6}),
        ("e\u0301 \uf9d1", "é 六", {"recomposed_texts": 1}),
        ("\ud83d\ude00", "😀", {"surrogate_pairs": 1}),
        ("a\ud83db\ude00", "ab", {"surrogates": 2}),
        ("\ud83d\x00\ude00", "", {"surrogates": 2, "control_characters": 1}),
        ("e\x00\u0301", "é", {"control_characters": 1, "recomposed_texts": 1}),
    ],
)
def test_each_change_is_made_and_counted(text: str, expected: str, changes: dict[str, int]) -> None:
    result = normalize(text)
    assert result.text == expected
    assert result.changes == changes
