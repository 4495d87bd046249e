"""Tokenizers: training, loading, and encoding in which nothing in a text can pass for a special token."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_style_data.tokenizer.loading import load_tokenizer
from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, PADDING, SPECIAL_TOKENS

if TYPE_CHECKING:
    from megatron_style_data.tokenizer.training import TextFit, measure_fit, train_tokenizer

# Imported when they are asked for: the processes of a build load this package, and none of them trains.
_OF_TRAINING = ("TextFit", "measure_fit", "train_tokenizer")


def __getattr__(name: str) -> Any:
    """One of the names that need the libraries of training."""
    if name not in _OF_TRAINING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from megatron_style_data.tokenizer import training

    return getattr(training, name)


def train_bpe(texts: Iterable[str], vocab_size: int, output: str | Path, *, replace: bool = False) -> Tokenizer:
    """Trains a byte-level BPE tokenizer (see ``training.train_tokenizer``)."""
    from megatron_style_data.tokenizer.training import train_tokenizer

    return train_tokenizer("bpe", list(texts), vocab_size, output, replace=replace)


def train_sentencepiece(
    texts: Iterable[str], vocab_size: int, output: str | Path, *, replace: bool = False, unigram: bool = False
) -> Tokenizer:
    """Trains a sentencepiece tokenizer with byte fallback, BPE or unigram (see ``training.train_tokenizer``)."""
    from megatron_style_data.tokenizer.training import train_tokenizer

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
