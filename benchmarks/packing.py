"""What each way of putting documents into samples costs, and how long best-fit packing takes.

`python -m benchmarks.packing` takes made-up lengths (10 million documents), `--dataset PREFIX` those of real text.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.made_up_dataset import lognormal_lengths
from benchmarks.measure import Comparison, timed
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.packing_plan import plan_packing

DOCUMENTS = 10_000_000
LENGTHS = (1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class PackingRow:
    """Shares, from 0 to 1, for one sequence length."""

    sequence_length: int
    padded_alone: float
    """Of the places, if each document has samples of its own."""
    lost_by_truncation: float
    """Of the tokens, if only the first sample of each document is kept."""
    split_needlessly: float
    """Of the documents, that would fit into a sample but are cut where samples are cut from one long text."""
    padded_best_fit: float
    """Of the places, with best-fit packing."""
    out_of_context: float
    """Of the targets with best-fit packing, that are predicted without the token before them."""
    cpu_seconds: float
    """CPU time of best-fit packing."""
    wall_seconds: float
    """From start to end."""
    microseconds: float
    """CPU time a document."""


def run(documents: int = DOCUMENTS, sequence_length: int = 1024, repeats: int = 3) -> Comparison:
    """The row of the table: there is no baseline, only bounds."""
    lengths = lognormal_lengths(documents)
    row = sorted((measure(lengths, sequence_length) for _ in range(repeats)), key=lambda one: one.cpu_seconds)[
        repeats // 2
    ]
    return Comparison(
        f"best-fit packing, {documents:,} documents of median 601 tokens, sequence length {sequence_length}",
        "–",
        "documents",
        documents / row.cpu_seconds,
        None,
        documents / row.wall_seconds,
        None,
        repeats,
        at_least="≤ 0.2 µs a document, padding < 0.02 %",
        notes=f"{row.microseconds:.3f} µs a document, padding {row.padded_best_fit:.4%}",
    )


def measure(lengths: NDArray[np.int32], sequence_length: int) -> PackingRow:
    """One row of the table."""
    tokens = int(lengths.sum(dtype=np.int64))
    alone = int((-(-lengths.astype(np.int64) // sequence_length)).sum()) * sequence_length
    kept = int(np.minimum(lengths, sequence_length).sum(dtype=np.int64))
    ends = np.cumsum(lengths, dtype=np.int64)
    cut = (ends - lengths) // sequence_length != (ends - 1) // sequence_length
    plan_packing(lengths[:100], sequence_length)  # compiles
    plans = []
    took = timed(lambda: plans.append(plan_packing(lengths, sequence_length)))
    (packing,) = plans
    return PackingRow(
        sequence_length=sequence_length,
        padded_alone=1 - tokens / alone,
        lost_by_truncation=1 - kept / tokens,
        split_needlessly=float(np.mean(cut & (lengths <= sequence_length))),
        padded_best_fit=packing.padding,
        out_of_context=packing.out_of_context / tokens,
        cpu_seconds=took.cpu_seconds,
        wall_seconds=took.wall_seconds,
        microseconds=1e6 * took.cpu_seconds / len(lengths),
    )


def table(rows: list[PackingRow]) -> str:
    """The rows as Markdown."""
    lines = [
        "| sequence length | one document a sample pads | truncating loses | concatenating splits needlessly "
        "| best-fit pads | best-fit, targets out of context | µs a document |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.sequence_length} | {row.padded_alone:.1%} | {row.lost_by_truncation:.1%} of the tokens "
            f"| {row.split_needlessly:.1%} of the documents | {row.padded_best_fit:.4%} "
            f"| {row.out_of_context:.4%} | {row.microseconds:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--dataset", help="PREFIX of a dataset whose documents' lengths are taken instead.")
    arguments = parser.parse_args()
    if arguments.dataset:
        dataset = IndexedDataset.open(Path(arguments.dataset))
        lengths = np.diff(dataset.document_starts(0, len(dataset) + 1)).astype(np.int32)
    else:
        lengths = lognormal_lengths(arguments.documents)
    tokens = int(lengths.sum(dtype=np.int64))
    sys.stdout.write(f"{len(lengths):,} documents, {tokens:,} tokens, median {int(np.median(lengths)):,} tokens\n\n")
    sys.stdout.write(table([measure(lengths, sequence_length) for sequence_length in LENGTHS]))


if __name__ == "__main__":
    main()
