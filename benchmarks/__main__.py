"""Runs all comparisons on the demo's text and writes the table to docs/benchmarks.md."""

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import (
    data_build,
    loader,
    minhash,
    open_dataset,
    sample_reading,
    tokenizer_training,
    training_step,
)
from benchmarks.measure import Comparison
from megatron_style_data.atomic import atomic_write_text
from zhgpt.demo.plan import CORPUS

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prefix = prepare(folder)
        rows = [
            data_build.run(list(CORPUS), folder / "tokenizer", folder),
            minhash.run(list(CORPUS)),
            tokenizer_training.run(list(CORPUS), folder),
            sample_reading.run(prefix),
            training_step.run(prefix),
            loader.run(prefix),
            open_dataset.run(folder),
        ]
    text = page(rows)
    atomic_write_text(arguments.output, text)
    print(text)


def prepare(folder: Path) -> Path:
    """A tokenizer and a dataset of the demo's text."""
    zhgpt = [sys.executable, "-m", "zhgpt.cli.main"]
    inputs = [word for path in CORPUS for word in ("--input", str(path))]
    tokenizer, prefix = str(folder / "tokenizer"), folder / "data"
    train = [*zhgpt, "tokenizer", "train", *inputs, "--vocab-size", "8192", "--output", tokenizer]
    subprocess.run(train, check=True, timeout=600)
    subprocess.run(
        [*zhgpt, "data", "build", *inputs, "--tokenizer", tokenizer, "--output", str(prefix)], check=True, timeout=600
    )
    return prefix


def page(rows: list[Comparison]) -> str:
    """The table as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: each row measures ours and a named baseline in turn, in one run on one machine, on text "
        "that both see for the first time where that matters. Ratios are per CPU-second; a number alone says little on "
        "another machine.",
        "",
        f"Machine: {cpu_name()}; Python {platform.python_version()}.",
        "",
        "| what | baseline | unit | ours / CPU-s | baseline / CPU-s | ratio | ours / s | baseline / s | runs |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        numbers = (
            f"{row.ours_per_cpu_second:,.1f} | {row.baseline_per_cpu_second:,.1f} | **{row.ratio:.2f}** | "
            f"{row.ours_per_wall_second:,.1f} | {row.baseline_per_wall_second:,.1f} | {row.repeats}"
        )
        lines.append(f"| {row.what} | {row.baseline} | {row.unit} | {numbers} |")
    return "\n".join(lines) + "\n"


def cpu_name() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
