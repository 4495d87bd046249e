"""Indexed datasets of made-up tokens, written straight from the format, with a manifest of any tokenizer."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from megatron_style_data.digests import BlockDigest
from megatron_style_data.indexed_dataset import index_chunks, path_bin, path_idx
from megatron_style_data.manifest import (
    Manifest,
    SplitName,
    SplitRecord,
    TokenizerRecord,
    checksums_of,
    manifest_bytes,
    path_manifest,
)

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
    documents = len(ids) // DOCUMENT_TOKENS
    index = b"".join(index_chunks("uint16", np.full(documents, DOCUMENT_TOKENS, np.int32), np.arange(documents + 1)))
    prefix.parent.mkdir(parents=True, exist_ok=True)
    digests = []
    for path, data in ((path_bin(prefix), ids.tobytes()), (path_idx(prefix), index)):
        path.write_bytes(data)
        digests.append(BlockDigest(1 << 20))
        digests[-1].update(data)
    train_documents = tokens // DOCUMENT_TOKENS
    splits: dict[SplitName, SplitRecord] = {
        "train": SplitRecord(0, train_documents, 0, tokens, tokens * bytes_per_token)
    }
    if valid_tokens:
        splits["valid"] = SplitRecord(
            train_documents, documents - train_documents, tokens, valid_tokens, valid_tokens * bytes_per_token
        )
    manifest = Manifest(
        origin="built",
        tokenizer=replace(tokenizer),
        dtype="uint16",
        documents=documents,
        sequences=documents,
        tokens=len(ids),
        utf8_bytes=len(ids) * bytes_per_token,
        documents_without_end_of_text=0,
        checksums=checksums_of(*digests),
        splits=splits,
        sources=[],
        settings={},
        floor=None,
    )
    path_manifest(prefix).write_bytes(manifest_bytes(manifest))
    return manifest
