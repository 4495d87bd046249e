"""Indexed datasets of a few tokens, written straight from the format; a small tokenizer and texts for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import written_dataset

from megatron_style_data.manifest import Manifest
from megatron_style_data.tokenizer import train_bpe

WriteDataset = Callable[..., Manifest]


@pytest.fixture
def write_dataset() -> WriteDataset:
    """Writes PREFIX.bin, .idx and .meta.json; `splits` gives the documents of each split (default: all train)."""
    return written_dataset.write_dataset


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
