"""Indexed datasets of a few tokens, written straight from the format; a small tokenizer and texts for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import written_dataset
from small_builds import write_jsonl

from megatron_style_data.build_settings import BuildSettings
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


@pytest.fixture
def corpus(tmp_path: Path, texts: list[str]) -> Path:
    """Two sources: 40 documents and 20, of which two are also in the first."""
    write_jsonl(tmp_path / "corpus" / "a.jsonl", texts[:40])
    write_jsonl(tmp_path / "corpus" / "b.jsonl.zst", texts[40:58] + texts[:2])
    return tmp_path / "corpus"


@pytest.fixture
def settings(corpus: Path, tokenizer_folder: Path, tmp_path: Path) -> BuildSettings:
    """A build of both, with a tenth held out."""
    return BuildSettings([str(corpus)], str(tokenizer_folder), tmp_path / "out" / "d", valid_fraction=0.1)


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
