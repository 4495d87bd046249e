"""Reading random training samples against nanoGPT's way: slices of np.memmap at random places.

`python -m benchmarks.sample_reading` reads made-up documents (400 MB of tokens) and compares every kind of samples.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.made_up_dataset import lognormal_lengths, write_made_up
from benchmarks.measure import Comparison, compare
from megatron_style_data.indexed_dataset import path_bin
from megatron_style_data.packing import pack
from megatron_style_data.sample_source import SampleSource, open_samples

SAMPLES = 4096
BATCH = 64
LENGTH = 1024
DOCUMENTS = 200_000


def run(prefix: Path) -> Comparison:
    """Samples a CPU-second, with all that ours also computes (order, document ids, positions, mask)."""
    samples = open_samples(prefix, sequence_length=LENGTH, seed=1)
    return replace(_compare("random samples, sequence length 1024", samples, prefix), at_least="1.0")


def main() -> None:
    """Prints a line for each kind of samples."""
    with tempfile.TemporaryDirectory() as name:
        prefix = Path(name) / "d"
        write_made_up(prefix, lognormal_lengths(DOCUMENTS))
        pack(prefix, sequence_length=LENGTH)
        kinds = {
            "concatenate": open_samples(prefix, sequence_length=LENGTH, seed=1),
            "best_fit": open_samples(prefix, sequence_length=LENGTH, seed=1, packing="best_fit"),
            "megatron": open_samples(prefix, sequence_length=LENGTH, seed=1, order="megatron"),
        }
        for kind, samples in kinds.items():
            for slices in (2, 1):
                row = _compare(kind, samples, prefix, slices=slices)
                sys.stdout.write(
                    f"{kind:<12} {row.ours_per_cpu_second:>9,.0f} samples a CPU-second; {row.baseline}: "
                    f"{row.baseline_per_cpu_second:>9,.0f}; ratio {row.ratio:.2f}\n"
                )


def _compare(what: str, samples: SampleSource, prefix: Path, slices: int = 2) -> Comparison:
    """Against nanoGPT's get_batch, which slices inputs and targets (slices=2), or against reading each token once."""
    tokens = np.memmap(path_bin(prefix), dtype=np.uint16, mode="r")
    generator = np.random.default_rng(1)

    def ours() -> None:
        for first in range(0, SAMPLES, BATCH):
            samples.batch(np.arange(first, first + BATCH))

    def nanogpt() -> None:
        for _ in range(0, SAMPLES, BATCH):
            starts = generator.integers(0, len(tokens) - LENGTH - 1, BATCH).tolist()
            np.stack([tokens[start : start + LENGTH].astype(np.int64) for start in starts])
            np.stack([tokens[start + 1 : start + 1 + LENGTH].astype(np.int64) for start in starts])

    def tokens_once() -> None:
        for _ in range(0, SAMPLES, BATCH):
            starts = generator.integers(0, len(tokens) - LENGTH - 1, BATCH).tolist()
            np.stack([tokens[start : start + LENGTH + 1].astype(np.int64) for start in starts])

    name, baseline = {
        2: ("np.memmap slices of inputs and of targets, as in nanoGPT", nanogpt),
        1: ("one np.memmap slice, tokens alone", tokens_once),
    }[slices]
    return compare(what, ours, name, baseline, amount=SAMPLES, unit="samples")


if __name__ == "__main__":
    main()
