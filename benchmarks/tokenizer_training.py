"""Training a byte-level BPE tokenizer by our trainer and by HF's, each in a process of its own, on the same sample.

``python -m benchmarks.tokenizer_training --corpus FILE [--threads 1]``; both files must be equal.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Comparison
from benchmarks.processes import Measured, measure
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.tokenizer.bpe_training import BPE_TRAINERS
from megatron_style_data.tokenizer.sample import sample_corpus
from zhgpt.demo.plan import CORPUS


def run(
    corpus: list[Path], folder: Path, *, sample_bytes: int = 50_000_000, vocab_size: int = 32_000, threads: int = 0
) -> Comparison:
    """Bytes of text a CPU-second; start of the process, reading the sample and compiling included on both sides.

    Args:
        corpus: what to draw the sample from.
        folder: where to write.
        sample_bytes: most UTF-8 bytes to train on.
        vocab_size: tokens.
        threads: HF's threads; 0: as many as it takes. Ours has one.
    """
    files = expand_inputs([str(path) for path in corpus])
    sample = sample_corpus(files, ReadOptions(), ReadCounters(), sample_bytes=sample_bytes)
    texts = folder / "sample.json"
    texts.write_text(json.dumps(sample.texts, ensure_ascii=False), "utf-8")
    ours = _train("numba", texts, vocab_size, folder / "trained_by_numba", threads=1)
    theirs = _train("hf", texts, vocab_size, folder / "trained_by_hf", threads=threads)
    if len({(folder / f"trained_by_{name}" / "tokenizer.json").read_bytes() for name in ("numba", "hf")}) != 1:
        raise RuntimeError("the two trainers wrote different tokenizers")
    amount = sample.utf8_bytes / 1e6
    return Comparison(
        f"tokenizer training, {amount:.0f} MB of Chinese, {vocab_size:,} tokens, the default regex",
        "HF trainer, same regex, " + (f"{threads} thread" if threads else "threads as it takes them"),
        "MB of text",
        amount / ours.cpu_seconds,
        amount / theirs.cpu_seconds,
        amount / ours.wall_seconds,
        amount / theirs.wall_seconds,
        1,
        at_least="2.5; memory ≤ 1/2",
        notes=(
            f"peak memory {ours.peak_bytes / 1e9:.2f} against {theirs.peak_bytes / 1e9:.2f} GB "
            f"({ours.peak_bytes / theirs.peak_bytes:.2f}); {ours.cpu_seconds:,.1f} against {theirs.cpu_seconds:,.1f} "
            f"CPU-seconds; the same merges (`tokenizer.json` byte for byte)"
        ),
    )


def _train(trainer: str, texts: Path, vocab_size: int, folder: Path, *, threads: int) -> Measured:
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.tokenizer_training", "--only", trainer]
    command += ["--corpus", str(texts), "--vocab-size", str(vocab_size), "--output", str(folder)]
    environment = dict(os.environ) | ({"RAYON_NUM_THREADS": str(threads)} if threads else {})
    if threads == 1:
        environment["TOKENIZERS_PARALLELISM"] = "false"
    return measure(command, environment)


def main() -> None:
    """Measures and prints, or trains once where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, nargs="+", default=list(CORPUS))
    parser.add_argument("--sample-bytes", type=int, default=50_000_000)
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--threads", type=int, default=0, help="HF's threads; 0: as many as it takes")
    parser.add_argument("--only", choices=tuple(BPE_TRAINERS), help="train on a JSON list of texts, nothing else")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.only is not None:
        texts = json.loads(arguments.corpus[0].read_text("utf-8"))
        BPE_TRAINERS[arguments.only](texts, arguments.vocab_size, arguments.output, None)
        return
    with tempfile.TemporaryDirectory() as name:
        row = run(
            arguments.corpus,
            Path(name),
            sample_bytes=arguments.sample_bytes,
            vocab_size=arguments.vocab_size,
            threads=arguments.threads,
        )
    print(f"{row.what}; baseline {row.baseline}: ratio {row.ratio:.2f} a CPU-second; {row.notes}")


if __name__ == "__main__":
    main()
