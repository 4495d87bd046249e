"""Indexed datasets of a few tokens, written straight from the format; a small tokenizer and texts for it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

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
from megatron_style_data.tokenizer import train_bpe

WriteDataset = Callable[..., Manifest]


@pytest.fixture
def write_dataset() -> WriteDataset:
    """Writes PREFIX.bin, .idx and .meta.json; `splits` gives the documents of each split (default: all train)."""
    return _write_dataset


def _write_dataset(
    prefix: Path,
    documents: Sequence[Sequence[int]],
    *,
    splits: dict[SplitName, int] | None = None,
    dtype: str = "uint16",
    end_of_text_id: int = 0,
    vocab_size: int = 1000,
    bytes_per_token: int = 3,
) -> Manifest:
    lengths = np.array([len(document) for document in documents], np.int32)
    data = np.concatenate([np.array(document, dtype) for document in documents]).tobytes()
    index = b"".join(index_chunks(dtype, lengths, np.arange(len(documents) + 1)))
    path_bin(prefix).write_bytes(data)
    path_idx(prefix).write_bytes(index)
    bin_digest, idx_digest = BlockDigest(1 << 16), BlockDigest(1 << 16)
    bin_digest.update(data)
    idx_digest.update(index)
    records: dict[SplitName, SplitRecord] = {}
    document = 0
    for name, count in (splits or {"train": len(documents)}).items():
        tokens = int(lengths[document : document + count].sum())
        first_token = int(lengths[:document].sum())
        records[name] = SplitRecord(document, count, first_token, tokens, tokens * bytes_per_token)
        document += count
    manifest = Manifest(
        origin="built",
        tokenizer=TokenizerRecord("f" * 64, "huggingface", vocab_size, "<|endoftext|>", end_of_text_id, "tokenizer"),
        dtype=dtype,
        documents=len(documents),
        sequences=len(documents),
        tokens=int(lengths.sum()),
        utf8_bytes=int(lengths.sum()) * bytes_per_token,
        documents_without_end_of_text=0,
        checksums=checksums_of(bin_digest, idx_digest),
        splits=records,
        sources=[],
        settings={},
        floor=None,
    )
    path_manifest(prefix).write_bytes(manifest_bytes(manifest))
    return manifest


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of 400 tokens."""
    folder = tmp_path_factory.mktemp("tokenizers") / "small"
    train_bpe(chinese_texts(60), 400, folder)
    return folder


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """60 different short Chinese texts."""
    return chinese_texts(60)


def chinese_texts(number: int) -> list[str]:
    """Texts put together at random from a few words, so that pairs of tokens say something about the next one."""
    draw = np.random.default_rng(1)
    words = [
        "村民们",
        "都很",
        "高兴",
        "，",
        "在",
        "田里",
        "唱歌",
        "。",
        "国家",
        "保护",
        "公民",
        "的",
        "权利",
        "他",
        "说",
        "：",
        "“好”",
    ]
    return [f"第{count}篇\n" + "".join(draw.choice(words, 40)) for count in range(number)]
