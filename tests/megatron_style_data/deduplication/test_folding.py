"""What is compared of a text."""

import unicodedata

import numpy as np
import pytest

from megatron_style_data.deduplication.folding import CODE_POINTS, fold, folding_table


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("床前明月光，疑是地上霜。", "床前明月光疑是地上霜"),
        ("床前明月光 疑是地上霜\n", "床前明月光疑是地上霜"),
        ("「ＧＰＴ－２」　有 １．５Ｂ 参数～～", "gpt2有15b参数"),
        ("好\u200b看\ufeff！\ufe0f……", "好看"),
        ("\uf90a", "金"),
        ("a+b=c", "a+b=c"),
        ("½㈱", "½㈱"),
        ("疎疏", "疎疏"),
        ("😀\U000e0041", "😀"),
        ("，。！？", ""),
    ],
)
def test_letters_digits_and_signs_stay_and_how_they_are_set_goes(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_the_table_says_of_every_code_point_what_folding_one_character_says() -> None:
    table = folding_table()
    assert table.shape == (CODE_POINTS,)
    draw = np.random.default_rng(0)
    for code in [*range(0x3000), *draw.integers(0x3000, 0x40000, 2000).tolist(), 0x10FFFD]:
        folded = fold(chr(code))
        assert table[code] == (ord(folded) if folded else 0)


def test_folding_twice_changes_nothing() -> None:
    table = folding_table()
    kept = table[table != 0]
    assert np.array_equal(table[kept], kept)


def test_no_unified_ideograph_is_changed() -> None:
    for code in range(0x4E00, 0x9FFF):
        assert unicodedata.normalize("NFKC", chr(code)) == chr(code) == fold(chr(code))
