"""Building an indexed dataset against the same build with HF tokenizers, in batches and one call a document.

``python -m benchmarks.data_build --corpus FILE --tokenizer FOLDER --megabytes 50 500`` measures CPU-seconds of all
processes, peak PSS and whether the bytes are the same. Every variant sees the text once (`benchmarks.cold_text`).
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.cold_text import ColdText, write_cold_text
from benchmarks.hf_build import VARIANTS
from benchmarks.measure import Comparison
from benchmarks.processes import Measured, measure
from megatron_style_data.indexed_dataset import path_bin, path_idx

OURS = "ours"
_NAMES = {
    "encode_batch_fast": "the same build with HF `encode_batch_fast`, 1,000 documents a call, one thread a worker",
    "encode": "the same build with one HF `encode` call a document",
}
_AT_LEAST = {"encode_batch_fast": "5; 300 MB ± 10 %", "encode": "10"}


def main() -> None:
    """Prints what each variant took, for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="any corpus; more text is made of it")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[50.0])
    parser.add_argument("--cut-bytes", type=int, help="short documents: whole lines of at least so many bytes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=(OURS, *VARIANTS), default=[OURS, *VARIANTS])
    arguments = parser.parse_args()
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text = write_cold_text(arguments.corpus, folder / "corpus.jsonl", megabytes, arguments.cut_bytes)
            print(f"{text.text_bytes / 1e6:.1f} MB of text, {arguments.workers} workers")
            for variant in arguments.variants:
                one = build(variant, folder, arguments.tokenizer, arguments.workers)
                print(
                    f"  {variant:<18} {one.cpu_seconds:7.1f} CPU-s  {one.wall_seconds:7.1f} s  "
                    f"{text.text_bytes / 1e6 / one.cpu_seconds:5.1f} MB/CPU-s  {one.peak_bytes / 1e6:5.0f} MB peak PSS",
                    flush=True,
                )
            if OURS in arguments.variants:
                others = [variant for variant in arguments.variants if variant != OURS]
                print(*(f"  {each}: {'same' if same_bytes(folder, each) else 'OTHER'} bytes" for each in others))


def run(
    corpus: list[Path],
    tokenizer: Path,
    folder: Path,
    megabytes: float,
    repeats: int,
    cut_bytes: int | None = None,
) -> list[Comparison]:
    """A row against each baseline; all variants in turn, start and checks of ours included.

    Args:
        corpus: Where the text comes from.
        tokenizer: Its folder.
        folder: Where the text and the datasets go.
        megabytes: Of text.
        repeats: Builds of each variant; the middle one counts.
        cut_bytes: Makes short documents of long ones (`benchmarks.cold_text`).
    """
    folder.mkdir()
    text = write_cold_text(corpus, folder / "corpus.jsonl", megabytes, cut_bytes)
    found: dict[str, list[Measured]] = {variant: [] for variant in (OURS, *VARIANTS)}
    for _ in range(repeats):
        for variant, measured in found.items():
            measured.append(build(variant, folder, tokenizer, workers=2))
    for variant in VARIANTS:
        if not same_bytes(folder, variant):
            raise RuntimeError(f"{variant} wrote other bytes than ours")
    what = f"build {megabytes:,.0f} MB of Chinese, 2 workers"
    if cut_bytes is not None:
        what += f", short documents ({text.text_bytes / text.documents:,.0f} bytes)"
    asked = _AT_LEAST if cut_bytes is None else {}
    return [row_of(text, what, asked.get(variant, ""), variant, found[OURS], found[variant]) for variant in VARIANTS]


def row_of(
    text: ColdText, what: str, at_least: str, variant: str, ours: list[Measured], theirs: list[Measured]
) -> Comparison:
    """One row: medians of CPU and wall time, the largest peaks."""
    amount = text.text_bytes / 1e6
    peaks = [max(one.peak_bytes for one in some) / 1e6 for some in (ours, theirs)]
    recombined = f"; {text.recombined_bytes / 1e6:,.0f} MB of it recombined" if text.recombined_bytes else ""

    def rate(some: list[Measured], field: str) -> float:
        return amount / statistics.median(getattr(one, field) for one in some)

    return Comparison(
        what,
        _NAMES[variant],
        "MB of text",
        rate(ours, "cpu_seconds"),
        rate(theirs, "cpu_seconds"),
        rate(ours, "wall_seconds"),
        rate(theirs, "wall_seconds"),
        len(ours),
        at_least=at_least,
        notes=(
            f"peak PSS of all processes {peaks[0]:,.0f} MB against {peaks[1]:,.0f} MB; `.bin` and `.idx` identical; "
            f"{text.documents:,} documents{recombined}"
        ),
    )


def build(variant: str, folder: Path, tokenizer: Path, workers: int) -> Measured:
    """One build of ``corpus.jsonl`` in the folder; all variants write documents in input order, none held out."""
    options = ["--input", str(folder / "corpus.jsonl"), "--tokenizer", str(tokenizer)]
    options += ["--output", str(folder / variant), "--workers", str(workers)]
    if variant == OURS:
        ours = [sys.executable, "-m", "zhgpt.cli.main", "data", "build", *options]
        return measure([*ours, "--valid-fraction", "0", "--force"])
    return measure([sys.executable, "-m", "benchmarks.hf_build", variant, *options])


def same_bytes(folder: Path, variant: str) -> bool:
    """Whether a variant's .bin and .idx are ours."""
    return all(path(folder / OURS).read_bytes() == path(folder / variant).read_bytes() for path in (path_bin, path_idx))


if __name__ == "__main__":
    main()
