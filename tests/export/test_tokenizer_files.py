"""Tokenizers of every kind as files that AutoTokenizer loads."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoTokenizer, GPT2Config, Qwen3Config

from megatron_style_data.tokenizer import load_tokenizer, train_bpe, train_sentencepiece
from zhgpt.errors import BadDataError
from zhgpt.export.tokenizer_files import PROBE_TEXTS, export_tokenizer, verify_tokenizer

CONFIGS = {"gpt2": GPT2Config, "qwen3": Qwen3Config}
CORPUS = [*PROBE_TEXTS, "却说曹操引军追赶，玄德大败而走。", "his father was a native of 北京 and 上海"] * 3
LLAMA_LIKE: dict[str, Any] = {"byte_fallback": True, "normalization_rule_name": "identity"}


def foreign_model(folder: Path, **options: Any) -> Path:
    """A sentencepiece model as sentencepiece itself makes it."""
    folder.mkdir()
    settings = {"vocab_size": 460, "minloglevel": 2, "character_coverage": 0.98, "hard_vocab_limit": False} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=str(folder / "foreign"), **settings
    )
    (folder / "foreign.vocab").unlink()
    return folder


def exported(source: Path, folder: Path, model_type: str) -> Any:
    folder.mkdir()
    CONFIGS[model_type]().save_pretrained(folder)
    result = export_tokenizer(source, folder)
    assert result.note is None
    verify_tokenizer(folder, source)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_tokenizer_json_without_a_config_is_taken_as_it_is(tokenizer_dir, tmp_path: Path, model_type: str) -> None:
    """transformers would otherwise build GPT2Tokenizer or Qwen2Tokenizer around the vocabulary."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(tokenizer_dir / "tokenizer.json", source)
    for place, name in ((source, "folder"), (source / "tokenizer.json", "file")):
        tokenizer = exported(place, tmp_path / name, model_type)
        assert tokenizer.eos_token == "<|endoftext|>"
        assert tokenizer.pad_token == "<|pad|>"


@pytest.mark.parametrize("model_type", CONFIGS)
@pytest.mark.parametrize("unigram", [False, True])
def test_a_sentencepiece_tokenizer_trained_here_loads(tmp_path: Path, model_type: str, unigram: bool) -> None:
    train_sentencepiece(CORPUS, 480, tmp_path / "source", unigram=unigram)
    tokenizer = exported(tmp_path / "source", tmp_path / "out", model_type)
    lone = exported(tmp_path / "source" / "tokenizer.model", tmp_path / "lone", model_type)
    assert lone(CORPUS)["input_ids"] == tokenizer(CORPUS)["input_ids"]
    assert tokenizer.eos_token == "<|endoftext|>"
    assert (tmp_path / "out" / "tokenizer.model").is_file()


@pytest.mark.parametrize("dummy_prefix", [True, False])
def test_a_foreign_bpe_model_is_written_as_tokenizer_json(tmp_path: Path, dummy_prefix: bool) -> None:
    """Of Llama's kind; it ends documents with </s>."""
    options = LLAMA_LIKE | {"model_type": "bpe", "add_dummy_prefix": dummy_prefix, "remove_extra_whitespaces": False}
    source = foreign_model(tmp_path / "source", **options)
    tokenizer = exported(source, tmp_path / "out", "qwen3")
    text = "玄德大败，走 2024 年"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == load_tokenizer(source).encode_batch([text])[0]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token == "</s>"
    single = exported(source / "foreign.model", tmp_path / "single", "qwen3")
    assert single(text)["input_ids"] == ids


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"model_type": "unigram"}, "it is a unigram model whose scores are not multiples of 1/16"),
        ({"model_type": "bpe"}, "it has a normaliser, or no byte fallback"),
    ],
)
def test_a_model_that_cannot_be_written_exactly_is_copied_with_a_word(
    tmp_path: Path, options: dict[str, str], why: str
) -> None:
    source = foreign_model(tmp_path / "source", **options)
    out = tmp_path / "out"
    out.mkdir()
    result = export_tokenizer(source, out)
    assert result.note is not None
    assert result.note.startswith(
        f"foreign.model was copied as it is: it cannot be written exactly as tokenizer.json ({why}"
    )
    assert (out / "tokenizer.model").read_bytes() == (source / "foreign.model").read_bytes()
    assert not (out / "tokenizer.json").exists()
    assert result.end_of_text_id == result.padding_id == 2


def test_a_tokenizer_that_transformers_reads_differently_is_refused(tokenizer_dir, tmp_path: Path) -> None:
    """A tokenizer.json that differs from the one the ids were made with stands for a class that rebuilds it."""
    train_bpe(["完全不同的文字"], 300, tmp_path / "other")
    out = tmp_path / "out"
    out.mkdir()
    GPT2Config().save_pretrained(out)
    export_tokenizer(tmp_path / "other", out)
    with pytest.raises(BadDataError, match='set "tokenizer_class": "PreTrainedTokenizerFast" in its tokenizer_config'):
        verify_tokenizer(out, tokenizer_dir)
