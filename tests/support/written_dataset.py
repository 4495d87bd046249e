"""Finished datasets written from given tokens, with manifests, without a tokenizer or a build."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def write_dataset(
    prefix: Path,
    documents: Sequence[Sequence[int] | NDArray[np.integer]],
    *,
    splits: dict[SplitName, int] | None = None,
    dtype: str = "uint16",
    tokenizer: TokenizerRecord | None = None,
    end_of_text_id: int = 0,
    vocab_size: int = 1000,
    bytes_per_token: int = 3,
) -> Manifest:
    """Writes PREFIX.bin, .idx and .meta.json.

    Args:
        prefix: where to; its folder is made.
        documents: tokens of each.
        splits: documents of each split, in the order they lie; left out: all are train.
        dtype: of the tokens.
        tokenizer: what the manifest says about the ids; left out: made up from the next two.
        end_of_text_id: of a made-up tokenizer.
        vocab_size: of a made-up tokenizer.
        bytes_per_token: what the manifest says about the text.
    """
    lengths = np.array([len(document) for document in documents], np.int32)
    data = np.concatenate([np.array(document, dtype) for document in documents]).tobytes()
    index = b"".join(index_chunks(dtype, lengths, np.arange(len(documents) + 1)))
    prefix.parent.mkdir(parents=True, exist_ok=True)
    digests = []
    for path, content in ((path_bin(prefix), data), (path_idx(prefix), index)):
        path.write_bytes(content)
        digests.append(BlockDigest(1 << 16))
        digests[-1].update(content)
    records: dict[SplitName, SplitRecord] = {}
    document = 0
    for name, count in (splits or {"train": len(documents)}).items():
        tokens = int(lengths[document : document + count].sum())
        first_token = int(lengths[:document].sum())
        records[name] = SplitRecord(document, count, first_token, tokens, tokens * bytes_per_token)
        document += count
    manifest = Manifest(
        origin="built",
        tokenizer=tokenizer
        or TokenizerRecord("f" * 64, "huggingface", vocab_size, "<|endoftext|>", end_of_text_id, "tokenizer"),
        dtype=dtype,
        documents=len(documents),
        sequences=len(documents),
        tokens=int(lengths.sum()),
        utf8_bytes=int(lengths.sum()) * bytes_per_token,
        documents_without_end_of_text=0,
        checksums=checksums_of(*digests),
        splits=records,
        sources=[],
        settings={},
        floor=None,
    )
    path_manifest(prefix).write_bytes(manifest_bytes(manifest))
    return manifest
