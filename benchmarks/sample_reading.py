"""Reading random training samples against nanoGPT's way: slices of np.memmap at random places."""

from pathlib import Path

import numpy as np

from benchmarks.measure import Comparison, compare
from megatron_style_data.indexed_dataset import path_bin
from megatron_style_data.samples import Samples

SAMPLES = 4096
BATCH = 64


def run(prefix: Path) -> Comparison:
    """Samples a CPU-second at sequence length 1024, with everything ours also computes (document ids, positions, mask)."""
    samples = Samples.open(prefix, sequence_length=1024, seed=1)
    tokens = np.memmap(path_bin(prefix), dtype=np.uint16, mode="r")
    generator = np.random.default_rng(1)

    def ours() -> None:
        for first in range(0, SAMPLES, BATCH):
            samples.batch(np.arange(first, first + BATCH))

    def nanogpt() -> None:
        for _ in range(0, SAMPLES, BATCH):
            starts = generator.integers(0, len(tokens) - 1025, BATCH)
            np.stack([tokens[start : start + 1025].astype(np.int64) for start in starts])

    return compare(
        "random samples, sequence length 1024",
        ours,
        "np.memmap slices, tokens alone",
        nanogpt,
        amount=SAMPLES,
        unit="samples",
    )
