"""sentencepiece's unigram model as trained here, and its twin tokenizer.json."""

import random
from pathlib import Path

import pytest
import sentencepiece as library
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_style_data.build import build
from megatron_style_data.build_settings import BuildSettings
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.tokenizer import (
    SPECIAL_TOKENS,
    Tokenizer,
    load_tokenizer,
    train_sentencepiece,
    train_tokenizer,
)
from megatron_style_data.tokenizer.sentencepiece_proto import NORMAL, read_algorithm, read_pieces, with_rounded_scores
from megatron_style_data.tokenizer.sentencepiece_to_json import definition_of

SPACED_TEXT = st.text(
    st.sampled_from("天下大势，分久必合……——aab  \n\t12<0x>") | st.characters(codec="utf-8", exclude_characters="▁")
)


@pytest.fixture(scope="session")
def unigram(unigram_folder: Path) -> Tokenizer:
    return load_tokenizer(unigram_folder)


@pytest.fixture(scope="session")
def as_json(unigram_folder: Path) -> Tokenizer:
    return load_tokenizer(unigram_folder / "tokenizer.json")


def test_the_folder_is_loaded_as_sentencepiece_and_is_a_unigram_model(unigram: Tokenizer, unigram_folder: Path) -> None:
    content = (unigram_folder / "tokenizer.model").read_bytes()
    assert read_algorithm(content, "it") == "unigram"
    assert unigram.kind == "sentencepiece"
    assert dict(unigram.special_tokens) == {name: number for number, name in enumerate(SPECIAL_TOKENS)}
    scores = [piece.score for piece in read_pieces(content, "it") if piece.type == NORMAL]
    assert scores == sorted(scores, reverse=True)
    assert all(score * 16 == int(score * 16) for score in scores)


@settings(max_examples=300)
@given(text=SPACED_TEXT)
def test_every_text_comes_back_and_has_the_ids_of_the_tokenizer_json(
    unigram: Tokenizer, as_json: Tokenizer, text: str
) -> None:
    ids = unigram.encode_batch([text])
    assert unigram.decode(ids[0]) == text
    assert as_json.encode_batch([text]) == ids


def test_adversarial_texts_have_the_same_ids(
    unigram: Tokenizer, as_json: Tokenizer, adversarial_texts: list[str], texts: tuple[str, ...]
) -> None:
    tried = [text for text in (*adversarial_texts, *texts) if "\0" not in text]
    assert as_json.encode_batch(tried) == unigram.encode_batch(tried)
    assert not set(unigram.special_tokens.values()) & {i for ids in unigram.encode_batch(tried) for i in ids}


def test_long_texts_full_of_ties_have_the_same_ids(
    unigram: Tokenizer, as_json: Tokenizer, texts: tuple[str, ...]
) -> None:
    """With scores as they were learnt, sums in 32 and in 64 bits part here (see ``SCORE_STEP``)."""
    draw = random.Random(1)
    phrases = [text[start : start + 7] for text in texts[:4] for start in range(0, len(text), 5)]
    tried = ["".join(draw.choices(phrases, k=20_000)), "=" * 6562, "汉" * 20_001, "\u00a0" * 4000 + " " * 4001]
    assert len(tried[0]) > 100_000
    assert as_json.encode_batch(tried) == unigram.encode_batch(tried)


def test_the_same_texts_give_the_same_bytes(tmp_path: Path, unigram_folder: Path, texts: tuple[str, ...]) -> None:
    train_sentencepiece(iter(texts), 700, tmp_path / "again", unigram=True)
    for file in unigram_folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_transformers_loads_the_folder_with_the_same_ids(
    unigram: Tokenizer, unigram_folder: Path, texts: tuple[str, ...]
) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(unigram_folder)
    assert theirs(list(texts))["input_ids"] == unigram.encode_batch(list(texts))
    assert [theirs.decode(ids) for ids in theirs(list(texts))["input_ids"]] == list(texts)
    assert (theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (0, 1, unigram.vocab_size)


def test_a_dataset_is_built_with_it(unigram: Tokenizer, unigram_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("天下大势，分久必合\n", "utf-8")
    result = build(BuildSettings([str(tmp_path / "a.txt")], str(unigram_folder), tmp_path / "d", valid_fraction=0))
    assert result.manifest.tokenizer.fingerprint == unigram.fingerprint
    ids = IndexedDataset.open(tmp_path / "d").document(0).tolist()
    assert ids == [*unigram.encode_batch(["天下大势，分久必合\n"])[0], 0]


def test_rounding_changes_scores_only(unigram_folder: Path) -> None:
    content = (unigram_folder / "tokenizer.model").read_bytes()
    before, after = read_pieces(content, "it"), read_pieces(with_rounded_scores(content, 0.5, "it"), "it")
    assert [(piece.text, piece.type) for piece in after] == [(piece.text, piece.type) for piece in before]
    for one, other in zip(before, after, strict=True):
        assert other.score == (round(one.score * 2) / 2 if one.type == NORMAL else one.score)
    library.SentencePieceProcessor(model_proto=with_rounded_scores(content, 0.5, "it"))
    assert with_rounded_scores(content, 1 / 16, "it") == content


@pytest.mark.parametrize(
    ("algorithm", "why"), [("unigram", "are not multiples of 1/16"), ("word", "its algorithm is word")]
)
def test_models_that_have_no_exact_tokenizer_json_say_why(
    algorithm: str, why: str, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(tmp_path / "m"), model_type=algorithm, vocab_size=200,
        hard_vocab_limit=False, minloglevel=2, character_coverage=0.98,
    )  # fmt: skip
    found = definition_of((tmp_path / "m.model").read_bytes(), "it")
    assert isinstance(found, str)
    assert why in found


def test_training_says_that_it_goes_on(tmp_path: Path, texts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_style_data.tokenizer.sentencepiece_training._SECONDS_BETWEEN_SIGNS", 0.001)
    said: list[tuple[str, float | None]] = []
    train_tokenizer(
        "sentencepiece-unigram", texts, 700, tmp_path / "a", on_progress=lambda what, share: said.append((what, share))
    )
    assert set(said) == {("sentencepiece trains, and does not say how far it is", None)}
