"""Trains a byte-level BPE tokenizer and writes it as HF's ``tokenizer.json``."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from megatron_style_data.atomic import atomic_folder, atomic_write_text
from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.huggingface import HuggingFaceTokenizer, load_huggingface
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, SPECIAL_TOKENS
from megatron_style_data.tokenizer.transformers_files import write_tokenizer_config

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


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    output: str | Path,
    *,
    replace: bool = False,
    show_progress: bool = False,
) -> HuggingFaceTokenizer:
    """Trains on ``texts`` and writes a folder that ``AutoTokenizer.from_pretrained`` loads.

    The same texts in the same order give the same bytes. The first ids are ``SPECIAL_TOKENS``, then the 256 bytes.

    Args:
        texts: Training texts; all of them are used (``sample.py`` bounds them).
        vocab_size: Size wanted, special tokens included. A small corpus may give fewer.
        output: The folder to write: ``tokenizer.json``, ``tokenizer_config.json``, ``special_tokens_map.json``.
        replace: Whether an existing folder gives way.
        show_progress: Whether the library draws its progress bars on stderr.

    Returns:
        The tokenizer, loaded from the folder.

    Raises:
        SettingError: ``vocab_size`` leaves no room for the bytes and the special tokens.
        StorageError: The folder exists (and ``replace`` is false) or cannot be written.
    """
    check_bpe_vocab_size(vocab_size)
    with atomic_folder(output, replace=replace) as folder:
        tokenizer = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=show_progress,
        )
        tokenizer.train_from_iterator(texts, trainer)
        atomic_write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
        write_tokenizer_config(folder, trained_as="bpe")
    return load_huggingface(Path(output) / "tokenizer.json", END_OF_TEXT)


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
