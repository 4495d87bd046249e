"""Datasets of made-up documents whose lengths are like those of real text, for what depends on lengths alone."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.digests import BlockDigest
from megatron_style_data.indexed_dataset import index_chunks, path_bin, path_idx
from megatron_style_data.manifest import (
    Manifest,
    SplitRecord,
    TokenizerRecord,
    checksums_of,
    manifest_bytes,
    path_manifest,
)

VOCAB_SIZE = 32_000
_CHUNK_TOKENS = 1 << 24


def lognormal_lengths(documents: int, seed: int = 1) -> NDArray[np.int32]:
    """Tokens of each document: median 600, sigma 1, from 8 to 100,000, and an end-of-text token."""
    drawn = np.random.default_rng(seed).lognormal(np.log(600), 1.0, documents)
    lengths: NDArray[np.int32] = np.clip(drawn, 8, 100_000).astype(np.int32) + np.int32(1)
    return lengths


def write_made_up(prefix: Path, lengths: NDArray[np.int32], *, sparse: bool = False) -> None:
    """A dataset with documents of these lengths, all of them train.

    Args:
        prefix: Where to.
        lengths: Tokens of each document.
        sparse: The .bin file is a hole that takes no place on the disk: every id is 0.
    """
    tokens = int(lengths.sum(dtype=np.int64))
    draw = np.random.default_rng(0)
    with open(path_bin(prefix), "wb") as file:
        for start in range(0, 0 if sparse else tokens, _CHUNK_TOKENS):
            count = min(_CHUNK_TOKENS, tokens - start)
            file.write(draw.integers(0, VOCAB_SIZE, count, dtype=np.uint16).tobytes())
        file.truncate(2 * tokens)
    with open(path_idx(prefix), "wb") as file:
        file.writelines(index_chunks("uint16", lengths, np.arange(len(lengths) + 1)))
    digest = BlockDigest(1 << 16)  # opening reads no checksum
    digest.update(b"made up")
    manifest = Manifest(
        origin="built",
        tokenizer=TokenizerRecord("0" * 64, "huggingface", VOCAB_SIZE, "<|endoftext|>", 0, "tokenizer"),
        dtype="uint16",
        documents=len(lengths),
        sequences=len(lengths),
        tokens=tokens,
        utf8_bytes=4 * tokens,
        documents_without_end_of_text=0,
        checksums=checksums_of(digest, digest),
        splits={"train": SplitRecord(0, len(lengths), 0, tokens, 4 * tokens)},
        sources=[],
        settings={},
        floor=None,
    )
    path_manifest(prefix).write_bytes(manifest_bytes(manifest))
