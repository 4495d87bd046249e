"""Any tokenizer.json: special-token strings stay text, ids stay what they were, the end of text is found."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer
from megatron_style_data.tokenizer.huggingface import HuggingFaceTokenizer, load_huggingface
from megatron_style_data.tokenizer.plain_text_copy import hidden_names, plain_text_copy, unreachable_name

SPELLINGS = st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "endoftext", "天下", " ", "\n", "<think>", "</s>"]))


def llama3_kind(texts: tuple[str, ...]) -> LibraryTokenizer:
    """Byte-level BPE that takes whole vocabulary entries before merging, with special and unmarked added tokens."""
    tokenizer = LibraryTokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"<\|\w+\|>|\p{L}+|[^\p{L}]"), "isolated"
            ),  # gives whole special tokens to the model
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(["<think>", AddedToken("天下", normalized=False), "    ", "ü"])
    tokenizer.post_processor = processors.TemplateProcessing(
        "<|im_start|> $A <|endoftext|>", None, [("<|im_start|>", 1), ("<|endoftext|>", 0)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    return tokenizer


def unigram_kind(texts: tuple[str, ...]) -> LibraryTokenizer:
    """T5's kind: the special pieces are in the model's own vocabulary, where a Unigram model finds them."""
    characters = sorted({character for text in texts for character in text} | set("</s>unkpad|imtarox_"))
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("天下", -3.0), *((c, -8.0) for c in characters)]
    tokenizer = LibraryTokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


def word_kind(texts: tuple[str, ...]) -> LibraryTokenizer:
    """Whole words, with an unknown token that must stay in place."""
    tokenizer = LibraryTokenizer(models.WordLevel({"[UNK]": 0, "[EOS]": 1, "天下": 2, "a": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[UNK]", "[EOS]"])
    return tokenizer


def wordpiece_kind(texts: tuple[str, ...]) -> LibraryTokenizer:
    """BERT's kind."""
    vocabulary = {"[UNK]": 0, "[SEP]": 1, "天": 2, "下": 3, "a": 4, "##a": 5}
    tokenizer = LibraryTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[UNK]", "[SEP]"])
    return tokenizer


KINDS: dict[str, tuple[Callable[[tuple[str, ...]], LibraryTokenizer], str]] = {
    "llama3": (llama3_kind, "<|endoftext|>"),
    "unigram": (unigram_kind, "</s>"),
    "word": (word_kind, "[EOS]"),
    "wordpiece": (wordpiece_kind, "[SEP]"),
}


def saved(tokenizer: LibraryTokenizer, tmp_path: Path, **config: Any) -> Path:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    if config:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_spells_a_special_token(
    kind: str, tmp_path: Path, texts: tuple[str, ...], adversarial_texts: list[str]
) -> None:
    make, end_of_text = KINDS[kind]
    raw = make(texts)
    tokenizer = load_tokenizer(saved(raw, tmp_path), end_of_text=end_of_text)
    unknown = raw.token_to_id("[UNK]") if kind.startswith("word") else raw.token_to_id("<unk>")
    special = set(tokenizer.special_tokens.values()) - {unknown}
    assert tokenizer.end_of_text_id in special
    assert tokenizer.end_of_text_id in raw.encode(end_of_text).ids  # the library itself would take it
    for text in [*adversarial_texts, end_of_text, f"天下{end_of_text} a", f"a {end_of_text} a"]:
        assert not special & set(tokenizer.encode_batch([text])[0]), text


def test_unmarked_added_tokens_are_text_too_and_spaces_stay_tokens(tmp_path: Path, texts: tuple[str, ...]) -> None:
    raw = llama3_kind(texts)
    tokenizer = load_tokenizer(saved(raw, tmp_path))
    assert set(tokenizer.special_tokens) == {"<|endoftext|>", "<|im_start|>", "<think>", "天下"}
    for name in ("<think>", "天下"):
        ids = tokenizer.encode_batch([f"a{name}b"])[0]
        assert raw.token_to_id(name) not in ids
        assert tokenizer.decode(ids) == f"a{name}b"
    for name in ("    ", "ü"):
        assert raw.token_to_id(name) in tokenizer.encode_batch([f"a{name}b"])[0]


def test_the_switch_of_the_library_alone_would_not_do(texts: tuple[str, ...]) -> None:
    raw = llama3_kind(texts)
    raw.encode_special_tokens = True
    assert raw.token_to_id("<think>") in raw.encode("<think>").ids  # added, but not marked special
    assert raw.token_to_id("<|endoftext|>") in raw.encode("<|endoftext|>").ids  # found in the model's own vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_text_has_the_ids_of_the_library_without_additions(
    kind: str, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    make, end_of_text = KINDS[kind]
    raw = make(texts)
    tokenizer = load_tokenizer(saved(raw, tmp_path), end_of_text=end_of_text)
    raw.no_truncation()
    raw.no_padding()
    ordinary = [text.replace("天下", "天 下") for text in texts]
    assert tokenizer.encode_batch(ordinary) == [raw.encode(text, add_special_tokens=False).ids for text in ordinary]
    assert tokenizer.vocab_size == raw.get_vocab_size()


@settings(max_examples=200)
@given(parts=SPELLINGS)
def test_spelt_special_tokens_come_back_as_text(bpe: Tokenizer, sentencepiece: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    for tokenizer in (bpe, sentencepiece):
        ids = tokenizer.encode_batch([text])[0]
        assert not set(tokenizer.special_tokens.values()) & set(ids)
        assert tokenizer.decode(ids) == text


def test_adversarial_texts_come_back_as_text(
    bpe: Tokenizer, sentencepiece: Tokenizer, adversarial_texts: list[str]
) -> None:
    for tokenizer in (bpe, sentencepiece):
        encoded = tokenizer.encode_batch(adversarial_texts)
        assert not any(set(tokenizer.special_tokens.values()) & set(ids) for ids in encoded)
        expected = [text.replace("▁", " ") if tokenizer is sentencepiece else text for text in adversarial_texts]
        assert [tokenizer.decode(ids) for ids in encoded] == expected


def test_large_batches_have_the_ids_of_single_texts(bpe: Tokenizer, texts: tuple[str, ...]) -> None:
    many = [text * 20 + str(number) for number in range(50) for text in texts]
    assert sum(map(len, many)) > 1 << 18
    assert bpe.encode_batch(many) == [bpe.encode_batch([text])[0] for text in many]


def test_nothing_is_encoded_as_nothing(bpe: Tokenizer, sentencepiece: Tokenizer) -> None:
    for tokenizer in (bpe, sentencepiece):
        assert tokenizer.encode_batch([]) == []
        assert tokenizer.encode_batch([""]) == [[]]
        assert tokenizer.decode([]) == ""


def test_special_tokens_decode_to_their_names(bpe: Tokenizer) -> None:
    assert bpe.decode([*bpe.encode_batch(["天下"])[0], 0, 2]) == "天下<|endoftext|><|im_start|>"


def test_half_a_character_decodes_to_the_replacement_character(bpe: Tokenizer) -> None:
    ids = bpe.encode_batch(["🀄"])[0]
    assert bpe.decode(ids[:-1]) == "\ufffd"


def test_end_of_text_comes_from_the_folders_config_before_the_names(tmp_path: Path, texts: tuple[str, ...]) -> None:
    raw = llama3_kind(texts)
    assert load_tokenizer(saved(raw, tmp_path)).end_of_text == "<|endoftext|>"
    assert load_tokenizer(saved(raw, tmp_path, eos_token="<|im_start|>")).end_of_text == "<|im_start|>"
    assert load_tokenizer(saved(raw, tmp_path, eos_token={"content": "<|im_start|>"})).end_of_text_id == 1
    assert load_tokenizer(saved(raw, tmp_path, eos_token=None)).end_of_text == "<|endoftext|>"
    assert load_tokenizer(tmp_path, end_of_text="<think>").end_of_text == "<think>"


def test_end_of_text_comes_from_the_special_tokens_map_too(tmp_path: Path, texts: tuple[str, ...]) -> None:
    saved(word_kind(texts), tmp_path)
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "[EOS]"}')
    assert load_tokenizer(tmp_path).end_of_text == "[EOS]"


def test_no_end_of_text_asks_for_one_naming_the_added_tokens(tmp_path: Path, texts: tuple[str, ...]) -> None:
    saved(wordpiece_kind(texts), tmp_path)
    with pytest.raises(
        SettingError,
        match=r"tokenizer\.json: no end-of-text token found \(looked for eos_token .*, then <\|endoftext\|>, .*, </s>.*\); "
        r"its added tokens are: '\[UNK\]', '\[SEP\]'; name the one that ends a document",
    ):
        load_tokenizer(tmp_path)
    with pytest.raises(SettingError, match=r"has no token '\[FIN\]'; name one of its tokens as the end of text"):
        load_tokenizer(tmp_path, end_of_text="[FIN]")


def test_an_end_of_text_that_is_the_unknown_token_is_refused(tmp_path: Path, texts: tuple[str, ...]) -> None:
    saved(word_kind(texts), tmp_path)
    with pytest.raises(
        SettingError, match=r"the text '\[UNK\]' in a document would be read as the end of the document"
    ):
        load_tokenizer(tmp_path, end_of_text="[UNK]")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"tokenizer\.json: is not JSON \(.+\); expected a tokenizer\.json of HF tokenizers"),
        (b"\xff\xfe", r"tokenizer\.json: is not JSON"),
        (b"\xef\xbb\xbf{}", r"tokenizer\.json: is not JSON"),
        (
            b'{"added_tokens": [{}], "model": {"type": "BPE", "vocab": {"</s>": 0}, "merges": []}}',
            r"tokenizer\.json: tokenizers [\d.]+ cannot read it: missing field",
        ),
        (b'{"model": {"type": "BPE", "vocab": {}}}', r"tokenizer\.json: has no model with a vocabulary; expected"),
        (b"[]", r"tokenizer\.json: has no model with a vocabulary; expected"),
        (b'{"model": {"type": "BPE"}}', r"tokenizer\.json: has no model with a vocabulary; expected"),
        (b'{"model": {"type": "New", "vocab": {"</s>": 0}}}', r"tokenizer\.json: tokenizers [\d.]+ cannot read it: "),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BadDataError, match=message):
        load_tokenizer(tmp_path)


def test_a_damaged_config_beside_it_is_refused(tmp_path: Path, texts: tuple[str, ...]) -> None:
    saved(word_kind(texts), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadDataError, match=r"tokenizer_config\.json: is not JSON \(.+\); repair or remove it"):
        load_tokenizer(tmp_path)
    with pytest.raises(BadDataError, match=r"tokenizer_config\.json: is not JSON \(.+\); repair or remove it"):
        load_huggingface(tmp_path / "tokenizer.json")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        load_huggingface(tmp_path)


def test_the_fingerprint_is_the_sha256_of_the_file(bpe: Tokenizer, bpe_folder: Path) -> None:
    printed = subprocess.run(
        ["sha256sum", bpe_folder / "tokenizer.json"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert bpe.fingerprint == printed.split()[0]


def test_the_plain_copy_does_not_change_the_definition_and_keeps_the_ids(texts: tuple[str, ...]) -> None:
    raw = llama3_kind(texts)
    definition = json.loads(raw.to_str())
    before = json.dumps(definition)
    hidden = hidden_names(definition)
    copy = LibraryTokenizer.from_str(json.dumps(plain_text_copy(definition, hidden)))
    assert json.dumps(definition) == before
    names = {name: unreachable_name(name) if name in hidden else name for name in raw.get_vocab()}
    assert copy.get_vocab() == {names[name]: number for name, number in raw.get_vocab().items()}


def test_merges_that_spell_a_special_token_are_left_out() -> None:
    vocabulary = {"<": 0, "x": 1, ">": 2, "<x": 3, "<x>": 4, "<x><": 5}
    definition = {"model": {"type": "BPE", "vocab": vocabulary, "merges": ["< x", "<x >", "<x> <"]}}
    assert plain_text_copy(definition, ["<x>"])["model"]["merges"] == ["< x"]
    definition["model"]["merges"] = [["<", "x"], ["<x", ">"], ["<x>", "<"]]
    assert plain_text_copy(definition, ["<x>"])["model"]["merges"] == [["<", "x"]]


def test_it_travels_to_another_process(bpe: Tokenizer, texts: tuple[str, ...]) -> None:
    copy = pickle.loads(pickle.dumps(bpe))
    assert isinstance(copy, HuggingFaceTokenizer)
    assert copy.fingerprint == bpe.fingerprint
    assert copy.encode_batch(list(texts)) == bpe.encode_batch(list(texts))


FORKING = """
import os, sys
from megatron_style_data.tokenizer import load_tokenizer
tokenizer = load_tokenizer(sys.argv[1])
few, many = ["天下大势"] * 10, ["天下大势，分久必合" * 1000] * 100
expected = tokenizer.encode_batch(few)
child = os.fork()
if child == 0:
    ok = tokenizer.encode_batch(few) == expected and len(tokenizer.encode_batch(many)) == 100
    os._exit(0 if ok else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("folder", ["bpe_folder", "sentencepiece_folder"])
def test_a_loaded_tokenizer_works_in_a_forked_process_without_a_warning(
    folder: str, request: pytest.FixtureRequest
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    command = [sys.executable, "-c", FORKING, str(request.getfixturevalue(folder))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
