"""Trains a byte-level BPE tokenizer and writes it as HF's ``tokenizer.json``."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from megatron_style_data.atomic import atomic_write_text
from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.special_tokens import SPECIAL_TOKENS
from megatron_style_data.tokenizer.transformers_files import DEFINITION_FILE, write_tokenizer_config

# Where a text may be cut before merging. Branch by branch: English endings after an apostrophe; a run of letters with
# at most one space or punctuation mark in front; one digit; a run of other signs with the line ends after it; line
# ends with the space before them; spaces, leaving the last one to the word that follows. It cuts exactly like Qwen2's,
# so that llama.cpp's "qwen2" pre-tokenizer reads the same tokens (docs/tokenizer.md).
SPLIT_PATTERN = "|".join(
    (
        r"(?i:'(?:[sdmt]|ll|re|ve))",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

SMALLEST_BPE_VOCABULARY = 256 + len(SPECIAL_TOKENS)


def write_bpe(texts: Iterable[str], vocab_size: int, folder: Path, show_progress: bool) -> None:
    """Trains on ``texts`` and writes ``tokenizer.json`` with the files that transformers wants beside it.

    The first ids are ``SPECIAL_TOKENS``, then the 256 bytes, then what was merged.

    Args:
        texts: Training texts; all of them are used.
        vocab_size: Size wanted, special tokens and bytes included.
        folder: An existing folder.
        show_progress: Whether the library draws its bars on stderr, where that is a terminal.
    """
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(texts, trainer)
    atomic_write_text(folder / DEFINITION_FILE, tokenizer.to_str(pretty=True) + "\n")
    write_tokenizer_config(folder, trained_as="bpe")


def check_bpe_vocab_size(vocab_size: int) -> None:
    """Refuses a vocabulary without room for the 256 bytes and the special tokens.

    Raises:
        SettingError: ``vocab_size`` is too small.
    """
    if vocab_size < SMALLEST_BPE_VOCABULARY:
        raise SettingError(
            f"vocab_size {vocab_size} is too small: the 256 bytes and {len(SPECIAL_TOKENS)} special tokens need "
            f"{SMALLEST_BPE_VOCABULARY}; Chinese text wants 8000 or more (32000 is usual)."
        )


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
