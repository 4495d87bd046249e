"""Tokenizers: training, loading, and encoding in which nothing in a text can pass for a special token."""

from collections.abc import Iterable
from pathlib import Path

from megatron_style_data.tokenizer.loading import load_tokenizer
from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, PADDING, SPECIAL_TOKENS
from megatron_style_data.tokenizer.training import TextFit, measure_fit, train_tokenizer


def train_bpe(texts: Iterable[str], vocab_size: int, output: str | Path, *, replace: bool = False) -> Tokenizer:
    """Trains a byte-level BPE tokenizer (see ``train_tokenizer``)."""
    return train_tokenizer("bpe", list(texts), vocab_size, output, replace=replace)


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, output: str | Path, *, replace: bool = False, unigram: bool = False
) -> Tokenizer:
    """Trains a sentencepiece tokenizer with byte fallback, BPE or unigram (see ``train_tokenizer``)."""
    kind = "sentencepiece-unigram" if unigram else "sentencepiece"
    return train_tokenizer(kind, list(texts), vocab_size, output, replace=replace)


__all__ = [
    "END_OF_TEXT",
    "PADDING",
    "SPECIAL_TOKENS",
    "TextFit",
    "Tokenizer",
    "load_tokenizer",
    "measure_fit",
    "train_bpe",
    "train_sentencepiece",
    "train_tokenizer",
]
