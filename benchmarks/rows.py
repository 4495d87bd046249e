"""The rows of the table by name, and the texts, tokenizers and datasets that they are measured on."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import (
    data_build,
    expert_parallel,
    loader,
    minhash,
    mixture_layer,
    model_step,
    open_dataset,
    packing,
    sample_reading,
    tokenizer_training,
    training_step,
)
from benchmarks.measure import Comparison
from zhgpt.demo.plan import CORPUS

_ZHGPT = [sys.executable, "-m", "zhgpt.cli.main"]


@dataclass
class Place:
    """Where one run of the benchmarks works.

    Attributes:
        folder: For everything that is written.
        corpus: Files of a large corpus; none: only rows that need none can be measured.
        scale: What sizes of texts are multiplied with, to try the code out.
    """

    folder: Path
    corpus: list[Path]
    scale: float = 1.0

    @cached_property
    def dataset(self) -> Path:
        """A dataset of the demo's text with a vocabulary of 8,192."""
        inputs = [word for path in CORPUS for word in ("--input", str(path))]
        tokenizer, prefix = str(self.folder / "demo_tokenizer"), self.folder / "demo"
        _zhgpt("tokenizer", "train", *inputs, "--vocab-size", "8192", "--output", tokenizer)
        _zhgpt("data", "build", *inputs, "--tokenizer", tokenizer, "--output", str(prefix))
        return prefix

    @cached_property
    def tokenizer(self) -> Path:
        """A tokenizer of the corpus with a vocabulary of 32,000."""
        folder = self.folder / "tokenizer"
        inputs = [word for path in self.corpus for word in ("--input", str(path))]
        sample = str(round(64_000_000 * self.scale))
        _zhgpt("tokenizer", "train", *inputs, "--sample-bytes", sample, "--output", str(folder))
        return folder

    def new_folder(self, name: str) -> Path:
        """A new empty folder."""
        folder = self.folder / name
        folder.mkdir()
        return folder


def _zhgpt(*arguments: str) -> None:
    subprocess.run([*_ZHGPT, *arguments], check=True, timeout=3600)


def _build(megabytes: float, repeats: int, cut_bytes: int | None = None) -> Callable[[Place], list[Comparison]]:
    def rows(place: Place) -> list[Comparison]:
        folder = place.folder / f"build_{megabytes:.0f}_{cut_bytes}"
        return data_build.run(place.corpus, place.tokenizer, folder, megabytes * place.scale, repeats, cut_bytes)

    return rows


def _tokenizer(place: Place) -> list[Comparison]:
    size = round(50_000_000 * place.scale)
    return [
        tokenizer_training.run(
            place.corpus, place.new_folder(f"training_{threads}"), sample_bytes=size, threads=threads
        )
        for threads in (0, 1)
    ]


def _minhash(place: Place) -> list[Comparison]:
    return [minhash.run(place.corpus, "50 MB of the corpus", 50 * place.scale)]


ROWS: dict[str, Callable[[Place], list[Comparison]]] = {
    "build_50": _build(50, repeats=3),
    "build_short": _build(50, repeats=3, cut_bytes=128),
    "build_500": _build(500, repeats=1),
    "tokenizer": _tokenizer,
    "open": lambda place: [open_dataset.run(place.folder, round(open_dataset.DOCUMENTS * place.scale))],
    "samples": lambda place: [sample_reading.run(place.dataset)],
    "packing": lambda place: [packing.run(round(packing.DOCUMENTS * place.scale))],
    "minhash": _minhash,
    "minhash_demo": lambda _: [minhash.run(list(CORPUS), "statutes and a novel")],
    "training_step": lambda place: [training_step.run(place.dataset)],
    "loader": lambda place: [loader.run(place.dataset)],
    "mixture": lambda _: mixture_layer.run(),
    "expert_parallel": lambda place: expert_parallel.run(place.dataset, place.new_folder("expert_parallel")),
    "model_step": lambda _: model_step.run("6 × 384, bf16"),
    "model_step_fp32": lambda _: model_step.run("6 × 384, fp32"),
    "model_step_124m": lambda _: model_step.run("124M, bf16"),
    "model_step_124m_fp32": lambda _: model_step.run("124M, fp32"),
    "engine": lambda _: model_step.run("engine"),
}
"""In the order of the table."""

NEED_CORPUS = frozenset({"build_50", "build_short", "build_500", "tokenizer", "minhash"})
"""Rows that need a large corpus."""
