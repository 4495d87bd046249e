"""The fast encoder gives the tokenizer's ids on everything that is adversarial, or it is not used."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from megatron_style_data.tokenizer import Tokenizer, load_tokenizer
from megatron_style_data.tokenizer.encoding_probes import encoding_probes
from megatron_style_data.tokenizer.fast_encoding import (
    FastEncoder,
    OwnEncoder,
    Proof,
    plain_definition,
)


def first_difference(tokenizer: Tokenizer, fast: FastEncoder, texts: Sequence[str]) -> str | None:
    return Proof(list(texts), OwnEncoder(tokenizer).encode_flat(list(texts))).first_difference(fast)


def ids_of(fast: FastEncoder, text: str) -> list[int]:
    return fast.encode_flat([text]).ids.tolist()


@pytest.fixture(scope="session")
def fast(bpe: Tokenizer, bpe_folder: Path) -> FastEncoder:
    return FastEncoder(plain_definition((bpe_folder / "tokenizer.json").read_bytes(), bpe.end_of_text))


def test_the_ids_are_the_tokenizers_on_every_probe(bpe: Tokenizer, fast: FastEncoder) -> None:
    assert first_difference(bpe, fast, encoding_probes(list(bpe.special_tokens))) is None


def test_probes_hold_every_byte_that_can_be_in_utf8() -> None:
    found = set("".join(encoding_probes([])).encode())
    assert found == set(range(1, 256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}


def test_our_pattern_is_handed_on_in_the_spelling_that_is_scanned_for(bpe_folder: Path) -> None:
    definition = json.loads(plain_definition((bpe_folder / "tokenizer.json").read_bytes(), "<|endoftext|>"))
    assert definition["pre_tokenizer"]["pretokenizers"][0]["pattern"] == {
        "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    }


def test_merges_are_handed_on_as_strings_unless_a_piece_has_a_space(bpe_folder: Path) -> None:
    content = json.loads((bpe_folder / "tokenizer.json").read_bytes())
    merges = content["model"]["merges"]
    made = json.loads(plain_definition(json.dumps(content).encode(), "<|endoftext|>"))
    assert made["model"]["merges"] == [f"{left} {right}" for left, right in merges]
    content["model"]["merges"] = [*merges, ["a b", "c"]]
    made = json.loads(plain_definition(json.dumps(content).encode(), "<|endoftext|>"))
    assert made["model"]["merges"] == content["model"]["merges"]


# Letters that fold to those of the endings, quotes of other kinds, spaces and line ends: where two scanners could part.
CUT = st.text("'’sStTſﬅﬆdDmMlLrReEvVK中 \n\r\t\u3000\x85\u2028\u200d。,1２½", max_size=12)


@settings(max_examples=300, deadline=None)
@given(CUT)
def test_texts_are_cut_where_the_tokenizer_cuts_them(bpe: Tokenizer, fast: FastEncoder, text: str) -> None:
    assert ids_of(fast, text) == bpe.encode_batch([text])[0]


def test_special_tokens_in_a_text_are_text(bpe: Tokenizer, fast: FastEncoder, adversarial_texts: list[str]) -> None:
    texts = [text for text in adversarial_texts if "\0" not in text]
    assert first_difference(bpe, fast, texts) is None
    assert bpe.end_of_text_id not in ids_of(fast, "一<|endoftext|>二")


@pytest.mark.parametrize(
    "text", ["中" * 100_000, "a" * 100_000, "哈哈，" * 50_000, " " * 50_000, "村民们" + "\n" * 50_000]
)
def test_very_long_runs_have_the_same_ids(bpe: Tokenizer, fast: FastEncoder, text: str) -> None:
    assert ids_of(fast, text) == bpe.encode_batch([text])[0]


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@settings(max_examples=300, deadline=None)
@given(text=st.text(CHARACTERS) | st.text("天下大势，。 \n\ta1'sЖ😀\u0301𠮷<|>"))
def test_any_text_has_the_same_ids(bpe: Tokenizer, fast: FastEncoder, text: str) -> None:
    assert ids_of(fast, text) == bpe.encode_batch([text])[0]


def test_flat_ids_are_those_of_the_texts_one_after_the_other(bpe: Tokenizer, fast: FastEncoder) -> None:
    texts = ["天下大势", "", "分久必合，合久必分。" * 50]
    for encoder in (fast, OwnEncoder(bpe)):
        flat = encoder.encode_flat(texts)
        assert (flat.ids.dtype, flat.lengths.dtype) == (np.uint32, np.int64)
        assert np.split(flat.ids, np.cumsum(flat.lengths)[:-1])[2].tolist() == bpe.encode_batch(texts)[2]
        assert flat.lengths.tolist() == [len(ids) for ids in bpe.encode_batch(texts)]
        assert len(encoder.encode_flat([]).ids) == 0


def test_a_proof_holds_the_probes_and_a_sample_of_the_corpus(bpe: Tokenizer, fast: FastEncoder) -> None:
    proof = Proof.of(bpe, ["天下大势，分久必合"])
    assert proof.texts == [*encoding_probes(list(bpe.special_tokens)), "天下大势，分久必合"]
    assert proof.first_difference(fast) is None


def test_the_first_text_with_other_ids_fails_the_proof(bpe_folder: Path, bpe: Tokenizer) -> None:
    definition = json.loads(plain_definition((bpe_folder / "tokenizer.json").read_bytes(), bpe.end_of_text))
    definition["model"]["merges"] = definition["model"]["merges"][:100]
    fast, text = FastEncoder(json.dumps(definition)), "话说天下大势，分久必合"
    expected = OwnEncoder(bpe).encode_flat(["a", text, text])
    assert Proof(["a", text, text], expected).first_difference(fast) == text


def gpt2_kind() -> LibraryTokenizer:
    tokenizer = LibraryTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def normalizing_kind() -> LibraryTokenizer:
    tokenizer = LibraryTokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
            pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


@pytest.mark.parametrize("kind", [gpt2_kind, normalizing_kind])
def test_other_kinds_of_byte_level_tokenizers_pass_the_proof(
    kind: Callable[[], LibraryTokenizer], tmp_path: Path, texts: tuple[str, ...]
) -> None:
    """GPT-2's cuts, and DeepSeek's."""
    made = kind()
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    definition = plain_definition((tmp_path / "tokenizer.json").read_bytes(), tokenizer.end_of_text)
    assert Proof.of(tokenizer, texts).first_difference(FastEncoder(definition)) is None
