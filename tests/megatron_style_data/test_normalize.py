"""Normalisation changes what must be one thing, counts it, and leaves Chinese typography alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_style_data.normalize import CHANGES, Normalized, normalize, not_plain

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


def test_plain_characters_are_normal_by_themselves_and_beside_any_other_of_them() -> None:
    """None of them is left out or replaced, combines with one before it, or has another place in the order of marks."""
    second_parts = set()
    for point in range(0x110000):
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            second_parts.add(chr(int(parts[1], 16)))
    second_parts |= {chr(point) for point in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # of Hangul syllables
    plain = [character for character in map(chr, range(0x110000)) if not list(not_plain([character]))]
    assert set("\n，𠮷") <= set(plain)
    assert len(plain) > 150_000
    assert not [character for character in plain if unicodedata.combining(character) or character in second_parts]
    assert not [character for character in plain if normalize(character).text != character]


@given(st.lists(st.text("天，\n\t\r\x00\ufeffe\u0301Å가\u11a8\u3099か😀") | st.text(max_size=20), max_size=20))
def test_a_text_that_is_not_named_is_normal(texts: list[str]) -> None:
    named = list(not_plain(texts))
    assert named == sorted(set(named))
    for number, text in enumerate(texts):
        if number not in named:
            assert normalize(text) == Normalized(text)
