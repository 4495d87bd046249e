"""Our trainer against HF's: the same pieces, the same merges to the last one, the same file."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from megatron_style_data.tokenizer.bpe_training import write_bpe_by_hf, write_bpe_by_numba
from megatron_style_data.tokenizer.interning import Interned
from megatron_style_data.tokenizer.merge_learning import learn_merges
from megatron_style_data.tokenizer.pretokens import count_pretokens, pieces_of
from megatron_style_data.tokenizer.split_pattern import SPLIT_PATTERN

MIXED = st.text(
    st.sampled_from(
        "天下大势，。“”《》　 \t\n\r12３²abSDt's'RE'lLvEſ_-—…é\u0301ñ한か|<>😀\u200d\x85\u2028\x1c\u3000\u180e"
    )
    | st.characters(codec="utf-8")
)


def split_by_hf(text: str) -> list[str]:
    pieces = pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated").pre_tokenize_str(text)
    return [piece for piece, _ in pieces]


@settings(max_examples=400, deadline=None)
@given(MIXED)
@example("'sſ'ſt'S'LL'll'lx'rE're'v've's")
@example(" \n \r\n  a   天 \u3000。\u3000天\t。\n\n")
def test_the_scanner_cuts_as_the_expression_does(text: str) -> None:
    assert pieces_of(text) == split_by_hf(text)


def test_the_scanner_knows_every_character() -> None:
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for start in range(0, len(characters), 1 << 16):
        for form in ("{}", "'{}", "{} ", "{}天"):
            text = "".join(form.format(character) for character in characters[start : start + (1 << 16) : 7])
            assert pieces_of(text) == split_by_hf(text)


@settings(max_examples=80, deadline=None)
@given(st.lists(MIXED, max_size=5))
def test_pieces_are_counted_a_text_at_a_time(texts: list[str]) -> None:
    counts = count_pretokens(texts)
    assert dict(counts.items()) == Counter(piece.encode() for text in texts for piece in split_by_hf(text))
    assert len(counts) == len(dict(counts.items()))


def test_strings_are_numbered_once_however_many() -> None:
    interned = Interned()
    strings = [str(number % 3000).encode() * (number % 7) for number in range(20_000)]
    numbers = [interned.add(string) for string in strings]
    first: dict[bytes, int] = {}
    assert numbers == [first.setdefault(string, len(first)) for string in strings]
    content, starts = interned.result()
    assert [content[starts[number] : starts[number + 1]].tobytes() for number in range(interned.used)] == list(first)


def both_files(texts: list[str], vocab_size: int, folder: Path) -> tuple[bytes, bytes]:
    contents = []
    for write in (write_bpe_by_numba, write_bpe_by_hf):
        write(texts, vocab_size, folder, None)
        contents.append((folder / "tokenizer.json").read_bytes())
    return contents[0], contents[1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab，天", max_size=60), max_size=6), st.integers(272, 330))
@example(["aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababab"], 290)
@example([], 300)
def test_ties_and_repetitions_are_as_in_hf(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], vocab_size: int
) -> None:
    ours, theirs = both_files(texts, vocab_size, tmp_path_factory.getbasetemp())
    assert ours == theirs


@pytest.mark.parametrize("seed", range(6))
def test_long_words_of_few_letters_are_as_in_hf(seed: int, tmp_path: Path) -> None:
    order = random.Random(seed)
    words = ["".join(order.choices("abc", k=order.randint(2, 14))) for _ in range(600)]
    ours, theirs = both_files([" ".join(words)], 900, tmp_path)
    assert ours == theirs


def test_random_text_of_many_characters_is_as_in_hf(tmp_path: Path) -> None:
    order = random.Random(0)
    characters = "".join(map(chr, range(0x4E00, 0x4F00))) + "，。 \nthe"
    texts = ["".join(order.choices(characters, weights=range(len(characters), 0, -1), k=3000)) for _ in range(30)]
    ours, theirs = both_files(texts, 4000, tmp_path)
    assert ours == theirs


def test_learning_says_how_far_it_is() -> None:
    shares: list[float] = []
    pretokens = count_pretokens(["天下大势分久必合合久必分" * 3, "天下", "大势"])
    learned = learn_merges(pretokens, [bytes([byte]) for byte in range(256)], range(256), 270, shares.append)
    assert len(learned.tokens) == 270
    assert learned.tokens[-1] == b"".join(learned.tokens[part] for part in learned.merges[-1])
    assert all(0 <= share <= 1 for share in shares)
    assert shares
