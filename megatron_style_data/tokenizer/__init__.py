"""Tokenizers: training, loading, and encoding in which nothing in a text can pass for a special token."""

from megatron_style_data.tokenizer.bpe_training import train_bpe
from megatron_style_data.tokenizer.loading import load_tokenizer
from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.sentencepiece_training import train_sentencepiece
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, PADDING, SPECIAL_TOKENS

__all__ = [
    "END_OF_TEXT",
    "PADDING",
    "SPECIAL_TOKENS",
    "Tokenizer",
    "load_tokenizer",
    "train_bpe",
    "train_sentencepiece",
]
