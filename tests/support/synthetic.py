"""Indexed datasets of made-up tokens, written straight from the format, with a manifest of any tokenizer."""

from pathlib import Path

import numpy as np
from written_dataset import write_dataset

from megatron_style_data.manifest import Manifest, SplitName, TokenizerRecord

NO_TOKENIZER = TokenizerRecord("f" * 64, "huggingface", 600, "<|endoftext|>", 0, "tokenizer")
DOCUMENT_TOKENS = 50


def write_synthetic(
    prefix: Path,
    tokens: int,
    *,
    seed: int = 0,
    valid_tokens: int = 0,
    tokenizer: TokenizerRecord = NO_TOKENIZER,
    bytes_per_token: int = 4,
) -> Manifest:
    """A dataset of documents of 50 tokens, drawn from a few ids that the seed decides.

    Args:
        prefix: where to; its folder is made.
        tokens: of the train split, a multiple of 50.
        seed: other seeds give other tokens.
        valid_tokens: of the valid split, a multiple of 50.
        tokenizer: what the manifest says about the ids; they stay below its vocabulary.
        bytes_per_token: what the manifest says about the text.
    """
    draw = np.random.default_rng(seed)
    ids = draw.choice(draw.integers(1, tokenizer.vocab_size, 40), tokens + valid_tokens).astype(np.uint16)
    ids[DOCUMENT_TOKENS - 1 :: DOCUMENT_TOKENS] = tokenizer.end_of_text_id
    splits: dict[SplitName, int] = {"train": tokens // DOCUMENT_TOKENS}
    if valid_tokens:
        splits["valid"] = valid_tokens // DOCUMENT_TOKENS
    return write_dataset(
        prefix,
        list(ids.reshape(-1, DOCUMENT_TOKENS)),
        splits=splits,
        tokenizer=tokenizer,
        bytes_per_token=bytes_per_token,
    )
