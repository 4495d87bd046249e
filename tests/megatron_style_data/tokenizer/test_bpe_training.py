"""Byte-level BPE as trained here: its split, its ids, its files, its determinism, and transformers' view of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer, train_bpe
from megatron_style_data.tokenizer.bpe_training import SMALLEST_BPE_VOCABULARY
from megatron_style_data.tokenizer.pieces import byte_level_alphabet
from megatron_style_data.tokenizer.split_pattern import SPLIT_PATTERN

# As published in Qwen2's tokenizer.json; llama.cpp knows it as the pre-tokenizer "qwen2".
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MIXED_TEXT = st.text(
    st.sampled_from("天下大势，。“”《》　 \t\n\r12３abSDt's'RE'lL_-—…é\u0301ñ한か|<>😀\u200d")
    | st.characters(codec="utf-8")
)


def split(pattern: str, text: str) -> list[str]:
    pieces = pre_tokenizers.Split(Regex(pattern), behavior="isolated").pre_tokenize_str(text)
    return [piece for piece, _ in pieces]


@settings(max_examples=500)
@given(MIXED_TEXT)
def test_the_split_is_qwen2s(text: str) -> None:
    assert split(SPLIT_PATTERN, text) == split(QWEN2_PATTERN, text)


def test_digits_stand_alone_and_punctuation_joins_the_clause_after_it() -> None:
    assert split(SPLIT_PATTERN, "公元184年，天下大乱。It's 3.14") == [
        *("公元", "1", "8", "4", "年", "，天下大乱", "。It", "'s", " ", "3", ".", "1", "4"),
    ]


def test_ids_begin_with_the_special_tokens_and_the_bytes(bpe_folder: Path) -> None:
    tokenizer = load_tokenizer(bpe_folder)
    assert [tokenizer.piece(number) for number in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)
    single_bytes = {tokenizer.piece(number) for number in range(len(SPECIAL_TOKENS), SMALLEST_BPE_VOCABULARY)}
    assert single_bytes == set(byte_level_alphabet().values())
    assert tokenizer.vocab_size == 600
    assert tokenizer.end_of_text_id == 0
    assert tokenizer.kind == "huggingface"


@settings(max_examples=200)
@given(text=st.text(st.characters(codec="utf-8")))
def test_every_text_comes_back(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode_batch([text])[0]) == text


def test_the_same_texts_give_the_same_bytes(tmp_path: Path, bpe_folder: Path, texts: tuple[str, ...]) -> None:
    for number in range(3):
        train_bpe(iter(texts), 600, tmp_path / str(number))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        contents = {(tmp_path / str(number) / name).read_bytes() for number in range(3)}
        assert contents == {(bpe_folder / name).read_bytes()}


def test_a_vocabulary_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"vocab_size 271 is too small: the 256 bytes and 16 special tokens need 272"
    ):
        train_bpe(["天下"], 271, tmp_path / "a")
    assert train_bpe(["天下"], 272, tmp_path / "a").vocab_size == 272


def test_a_small_corpus_gives_a_smaller_vocabulary(tmp_path: Path) -> None:
    assert train_bpe(["天下大势"], 32_000, tmp_path / "a").vocab_size < 300


@pytest.mark.parametrize("model_type", [None, "gpt2", "llama", "qwen3"])
def test_transformers_loads_the_folder_with_the_same_ids(
    model_type: str | None, bpe_folder: Path, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    from transformers import AutoTokenizer

    for file in bpe_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if model_type is not None:  # as in an exported model, where it must not bring another tokenizer class with it
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(bpe_folder)
    assert theirs(list(texts))["input_ids"] == ours.encode_batch(list(texts))
    assert [theirs.decode(ids) for ids in theirs(list(texts))["input_ids"]] == list(texts)
    assert (theirs.eos_token_id, theirs.bos_token_id, theirs.pad_token_id) == (0, 0, 1)
    assert theirs.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(16))
    assert len(theirs) == ours.vocab_size
    assert theirs("<|im_start|>天下<|im_end|>")["input_ids"][0] == 2  # a chat template can use them
