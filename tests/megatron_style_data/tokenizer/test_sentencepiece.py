"""sentencepiece as trained here, its twin tokenizer.json, and models made elsewhere."""

import io
import json
import pickle
from pathlib import Path

import pytest
import sentencepiece as library
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer, train_sentencepiece
from megatron_style_data.tokenizer.sentencepiece_model import SentencePieceTokenizer, load_sentencepiece
from megatron_style_data.tokenizer.sentencepiece_proto import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    read_pieces,
    with_control_pieces,
)
from megatron_style_data.tokenizer.sentencepiece_training import SMALLEST_SENTENCEPIECE_VOCABULARY

SPACED_TEXT = st.text(
    st.sampled_from("天下大势，分久必合……——aab  \n\t12") | st.characters(codec="utf-8", exclude_characters="▁")
)


def train_elsewhere(tmp_path: Path, texts: tuple[str, ...], **settings: object) -> Path:
    """A model with settings that are not ours."""
    model = io.BytesIO()
    lines = [line for text in texts for line in text.split("\n") if line]
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        **{"vocab_size": 600, "minloglevel": 2, "hard_vocab_limit": False, "byte_fallback": True, **settings},
    )
    (tmp_path / "spm.model").write_bytes(model.getvalue())
    return tmp_path / "spm.model"


def test_ids_begin_with_the_special_tokens_then_unknown_then_the_bytes(sentencepiece_folder: Path) -> None:
    pieces = read_pieces((sentencepiece_folder / "tokenizer.model").read_bytes(), "it")
    assert [piece.text for piece in pieces[:16]] == list(SPECIAL_TOKENS)
    assert {piece.type for piece in pieces[:16]} == {CONTROL}
    assert (pieces[16].text, pieces[16].type) == ("<unk>", UNKNOWN)
    assert [piece.text for piece in pieces[17 : 17 + 256]] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert {piece.type for piece in pieces[17 : 17 + 256]} == {BYTE}


def test_the_folder_is_loaded_as_sentencepiece(sentencepiece: Tokenizer, sentencepiece_folder: Path) -> None:
    assert (sentencepiece.kind, sentencepiece.end_of_text_id, sentencepiece.vocab_size) == ("sentencepiece", 0, 700)
    assert sentencepiece.end_of_text == "<|endoftext|>"
    assert dict(sentencepiece.special_tokens) == {name: number for number, name in enumerate(SPECIAL_TOKENS)}
    by_file = load_tokenizer(sentencepiece_folder / "tokenizer.model")
    assert by_file.fingerprint == sentencepiece.fingerprint


@settings(max_examples=300)
@given(text=SPACED_TEXT)
def test_every_text_comes_back(sentencepiece: Tokenizer, text: str) -> None:
    assert sentencepiece.decode(sentencepiece.encode_batch([text])[0]) == text


@settings(max_examples=300)
@given(text=SPACED_TEXT)
def test_the_tokenizer_json_beside_it_gives_the_same_ids(
    sentencepiece: Tokenizer, sentencepiece_as_json: Tokenizer, text: str
) -> None:
    assert sentencepiece_as_json.encode_batch([text]) == sentencepiece.encode_batch([text])


def test_special_tokens_decode_to_their_names(sentencepiece: Tokenizer) -> None:
    ids = sentencepiece.encode_batch(["天下", " 大势"])
    assert sentencepiece.decode([*ids[0], 0, 2, *ids[1], 3]) == "天下<|endoftext|><|im_start|> 大势<|im_end|>"


def test_the_same_texts_give_the_same_bytes(tmp_path: Path, sentencepiece_folder: Path, texts: tuple[str, ...]) -> None:
    train_sentencepiece(iter(texts), 700, tmp_path / "again")
    for file in sentencepiece_folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_a_vocabulary_without_room_is_refused(tmp_path: Path, texts: tuple[str, ...]) -> None:
    with pytest.raises(
        SettingError, match=r"vocab_size 367 is too small: the 256 bytes, 16 special tokens, <unk> and AS"
    ):
        train_sentencepiece(texts, SMALLEST_SENTENCEPIECE_VOCABULARY - 1, tmp_path / "a")
    with pytest.raises(
        SettingError, match=r"vocab_size 400 is too small: bytes, .* make up 99\.95% of the text need \d+"
    ):
        train_sentencepiece(texts, 400, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_without_spaces_still_has_one(tmp_path: Path) -> None:
    tokenizer = train_sentencepiece(["天下大势"], 500, tmp_path / "a")
    assert tokenizer.decode(tokenizer.encode_batch(["天 下"])[0]) == "天 下"


@pytest.mark.parametrize("unigram", [False, True])
def test_texts_of_ascii_letters_alone_are_refused(tmp_path: Path, unigram: bool) -> None:
    with pytest.raises(BadDataError, match="no space, of which sentencepiece makes a vocabulary that cannot spell a"):
        train_sentencepiece(["abc"], 700, tmp_path / "tokenizer", unigram=unigram)
    assert not (tmp_path / "tokenizer").exists()


@pytest.mark.parametrize("model_type", [None, "gpt2", "llama", "qwen3"])
def test_transformers_loads_the_folder_with_the_same_ids(
    model_type: str | None, sentencepiece_folder: Path, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    from transformers import AutoTokenizer

    for file in sentencepiece_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if model_type is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(sentencepiece_folder)
    assert theirs(list(texts))["input_ids"] == ours.encode_batch(list(texts))
    assert [theirs.decode(ids) for ids in theirs(list(texts))["input_ids"]] == list(texts)
    assert (theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (0, 1, 700)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_user_defined_pieces_of_another_model_are_not_found_in_text(
    model_type: str, tmp_path: Path, texts: tuple[str, ...], adversarial_texts: list[str]
) -> None:
    path = train_elsewhere(
        tmp_path,
        texts,
        model_type=model_type,
        user_defined_symbols=["<|endoftext|>", "<|im_start|>", "\n", "▁▁"],
        eos_id=-1,
        bos_id=-1,
        vocab_size=520,
    )
    raw = library.SentencePieceProcessor(model_file=str(path))
    assert raw.piece_to_id("<|endoftext|>") in raw.encode("<|endoftext|>")  # that is what must not happen
    tokenizer = load_tokenizer(path)
    assert tokenizer.end_of_text == "<|endoftext|>"
    special = set(tokenizer.special_tokens.values())
    assert special == {raw.piece_to_id("<|endoftext|>"), raw.piece_to_id("<|im_start|>")}
    for text in adversarial_texts:
        assert not special & set(tokenizer.encode_batch([text])[0])
    assert raw.piece_to_id("\n") in tokenizer.encode_batch(["天\n下"])[0]  # what is plainly text stays text
    assert tokenizer.encode_batch(["天下大势 分久"]) == [raw.encode("天下大势 分久")]


def test_the_models_own_end_of_text_is_found(tmp_path: Path, texts: tuple[str, ...]) -> None:
    tokenizer = load_tokenizer(train_elsewhere(tmp_path, texts, model_type="bpe"))
    assert (tokenizer.end_of_text, tokenizer.end_of_text_id) == ("</s>", 2)
    assert 2 not in tokenizer.encode_batch(["</s>"])[0]


def test_a_model_without_end_of_text_asks_for_one(tmp_path: Path, texts: tuple[str, ...]) -> None:
    path = train_elsewhere(tmp_path, texts, eos_id=-1, bos_id=-1, control_symbols=["[END]"])
    with pytest.raises(
        SettingError, match=r"spm\.model: has no end-of-text piece; its special pieces are: '\[END\]'; name"
    ):
        load_tokenizer(path)
    with pytest.raises(SettingError, match=r"spm\.model: has no piece '\[FIN\]'; its special pieces are: '\[END\]'"):
        load_tokenizer(path, end_of_text="[FIN]")
    tokenizer = load_tokenizer(path, end_of_text="[END]")
    assert tokenizer.end_of_text == "[END]"


def test_a_damaged_model_is_refused_by_name(tmp_path: Path, sentencepiece_folder: Path) -> None:
    whole = (sentencepiece_folder / "tokenizer.model").read_bytes()
    path = tmp_path / "a.model"
    between_pieces = whole[: whole.index(b"\x0a\x0f\x0a\x06<0x41>")]
    assert between_pieces
    for content in (b"no model", b"", whole[: len(whole) // 2], between_pieces, b"\x08" * 20):
        path.write_bytes(content)
        with pytest.raises(BadDataError, match=r"a\.model: .*expected a \.model file of sentencepiece"):
            load_tokenizer(path)
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        load_sentencepiece(tmp_path)


def test_it_travels_to_another_process(sentencepiece: Tokenizer, texts: tuple[str, ...]) -> None:
    copy = pickle.loads(pickle.dumps(sentencepiece))
    assert isinstance(copy, SentencePieceTokenizer)
    assert copy.fingerprint == sentencepiece.fingerprint
    assert copy.encode_batch(list(texts)) == sentencepiece.encode_batch(list(texts))


def test_pieces_are_those_of_the_library(sentencepiece_folder: Path) -> None:
    content = (sentencepiece_folder / "tokenizer.model").read_bytes()
    raw = library.SentencePieceProcessor(model_proto=content)
    assert read_pieces(content, "it") == [
        Piece(
            raw.id_to_piece(number),
            raw.get_score(number),
            CONTROL
            if raw.is_control(number)
            else UNKNOWN
            if raw.is_unknown(number)
            else BYTE
            if raw.is_byte(number)
            else NORMAL,
        )
        for number in range(raw.get_piece_size())
    ]


def test_retyping_changes_the_type_of_those_pieces_only(tmp_path: Path, texts: tuple[str, ...]) -> None:
    content = train_elsewhere(tmp_path, texts, user_defined_symbols=["<x>", "<y>"]).read_bytes()
    before = read_pieces(content, "it")
    (number,) = (number for number, piece in enumerate(before) if piece.text == "<y>")
    assert before[number].type == USER_DEFINED
    after = read_pieces(with_control_pieces(content, {number}, "it"), "it")
    assert after[number] == Piece("<y>", before[number].score, CONTROL)
    assert after[:number] + after[number + 1 :] == before[:number] + before[number + 1 :]
    assert with_control_pieces(content, set(), "it") == content
