"""Texts of Chinese characters drawn at random, and texts that differ from them in known ways."""

import json
from pathlib import Path

import numpy as np
import zstandard


def chinese(draw: np.random.Generator, characters: int) -> str:
    """So many characters drawn at random."""
    return "".join(map(chr, draw.integers(0x4E00, 0x9FA0, characters).tolist()))


def punctuated(text: str, every: int) -> str:
    """The same text in clauses of so many characters."""
    return "，".join(text[first : first + every] for first in range(0, len(text), every)) + "。\n"


def with_another_end(text: str, draw: np.random.Generator, characters: int) -> str:
    """The text with its last characters replaced."""
    return text[: len(text) - characters] + chinese(draw, characters)


def written_shards(folder: Path, number: int) -> list[Path]:
    """So many parts of a cleaned corpus with exact and near-duplicates within and between them."""
    draw = np.random.default_rng(8)
    texts = [chinese(draw, 200) for _ in range(40)]
    again = [with_another_end(text, draw, 5) for text in texts]
    paths = [folder / f"{shard}.jsonl.zst" for shard in range(number)]
    for shard, path in enumerate(paths):
        lines = [
            json.dumps({"text": text, "source": "诗"}, ensure_ascii=False) + "\n"
            for text in (*texts[shard::2], *again[shard::3], *texts[:3])
        ]
        path.write_bytes(zstandard.compress("".join(lines).encode("utf-8")))
    return paths
