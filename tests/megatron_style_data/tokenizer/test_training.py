"""Training publishes a folder only when it works, never over something else, and measures how it fits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer, measure_fit, train_tokenizer
from megatron_style_data.tokenizer.pieces import byte_level_alphabet, readable_token
from megatron_style_data.tokenizer.self_test import self_test
from megatron_style_data.tokenizer.training import texts_within


class Changed:
    """A tokenizer with one fault."""

    def __init__(self, sound: Tokenizer, fault: str) -> None:
        self.kind, self.vocab_size, self.fingerprint = sound.kind, sound.vocab_size, sound.fingerprint
        self.end_of_text, self.end_of_text_id = sound.end_of_text, sound.end_of_text_id
        self.special_tokens: Mapping[str, int] = sound.special_tokens
        self._sound, self._fault = sound, fault
        if fault == "ids":
            self.special_tokens = {name: number + 1 for name, number in sound.special_tokens.items()}

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        if self._fault == "forgery":
            return [
                [0] if text == "<|endoftext|>" else ids
                for text, ids in zip(texts, self._sound.encode_batch(texts), strict=True)
            ]
        return self._sound.encode_batch(texts)

    def decode(self, ids: Sequence[int]) -> str:
        text = self._sound.decode(ids)
        return text.replace("势", "事") if self._fault == "loss" else text

    def piece(self, number: int) -> str:
        return self._sound.piece(number)


def test_a_sound_tokenizer_passes_the_self_test(
    bpe: Tokenizer, sentencepiece: Tokenizer, texts: tuple[str, ...], adversarial_texts: list[str]
) -> None:
    for tokenizer in (bpe, sentencepiece):
        self_test(tokenizer, SPECIAL_TOKENS, [*texts, *adversarial_texts])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("loss", r"self-test: '势，分久必合.*' came back as '事，分久必合"),
        ("forgery", r"self-test: the text '<\|endoftext\|>' was encoded with the special tokens \[0\]"),
        ("ids", r"self-test: <\|endoftext\|> is not the special token 0"),
    ],
)
def test_a_fault_does_not_pass_the_self_test(fault: str, message: str, bpe: Tokenizer) -> None:
    with pytest.raises(RuntimeError, match=message):
        self_test(Changed(bpe, fault), SPECIAL_TOKENS, ["天下大势，分久必合"])


def test_nothing_is_published_when_training_fails(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="too small"):
        train_tokenizer("sentencepiece", ["".join(map(chr, range(0x4E00, 0x5200)))], 400, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_tokenizer_is_replaced_only_on_request(tmp_path: Path, texts: tuple[str, ...]) -> None:
    first = train_tokenizer("bpe", texts, 300, tmp_path / "out")
    with pytest.raises(SettingError, match=r"out: holds a tokenizer already; .* or replace it with --force"):
        train_tokenizer("bpe", texts, 310, tmp_path / "out")
    assert load_tokenizer(tmp_path / "out").fingerprint == first.fingerprint
    second = train_tokenizer("sentencepiece", texts, 600, tmp_path / "out", replace=True)
    assert load_tokenizer(tmp_path / "out").fingerprint == second.fingerprint
    train_tokenizer("bpe", texts, 300, tmp_path / "out", replace=True)
    assert not (tmp_path / "out" / "tokenizer.model").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_what_is_not_a_tokenizer_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(SettingError, match=r"holds thesis\.txt, which is not a tokenizer's file, and would be lost"):
        train_tokenizer("bpe", ["天下"], 300, tmp_path, replace=True)
    with pytest.raises(SettingError, match=r"thesis\.txt: is a file; expected a new folder"):
        train_tokenizer("bpe", ["天下"], 300, tmp_path / "thesis.txt", replace=True)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_an_empty_folder_is_no_obstacle(tmp_path: Path) -> None:
    train_tokenizer("bpe", ["天下"], 300, tmp_path)
    assert load_tokenizer(tmp_path).end_of_text_id == 0


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="kind 'wordpiece' is not known; choose bpe or sentencepiece"):
        train_tokenizer("wordpiece", ["天下"], 300, tmp_path / "out")


def test_the_fit_counts_characters_bytes_and_frequent_characters(bpe: Tokenizer) -> None:
    texts = ["天下大势", "龘龘"]
    tokens = sum(map(len, bpe.encode_batch(texts)))
    fit = measure_fit(bpe, texts)
    assert fit.characters_per_token == 6 / tokens
    assert fit.bytes_per_token == 18 / tokens
    assert fit.frequent == 5
    assert fit.frequent_in_one_token == sum(len(bpe.encode_batch([character])[0]) == 1 for character in "天下大势龘")


def test_texts_within_a_length_are_at_least_one() -> None:
    assert texts_within(["aaaa", "b"], 2) == ["aaaa"]
    assert texts_within(["aa", "b", "c"], 3) == ["aa", "b"]
    assert texts_within([], 3) == []


def test_the_byte_level_alphabet_is_the_librarys() -> None:
    from tokenizers import pre_tokenizers

    alphabet = byte_level_alphabet()
    assert set(alphabet.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(alphabet) == list(range(256))
    spelt = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("村 \n")[0][0]
    assert spelt == "".join(alphabet[byte] for byte in "村 \n".encode())


def test_tokens_are_shown_as_text_bytes_or_names(bpe: Tokenizer, sentencepiece: Tokenizer) -> None:
    for tokenizer in (bpe, sentencepiece):
        assert readable_token(tokenizer, 0) == "<|endoftext|>"
        shown = [readable_token(tokenizer, number) for number in tokenizer.encode_batch(["a \n🀄"])[0]]
        assert shown == ["'a'", "' '", "'\\n'", "bytes f0", "bytes 9f", "bytes 80", "bytes 84"] or (
            tokenizer is bpe and shown[-1] == "bytes 84"
        )
