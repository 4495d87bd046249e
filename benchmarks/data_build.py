"""Building an indexed dataset against the same build with HF tokenizers, in batches and one call a document.

``python -m benchmarks.data_build --input FILE.jsonl --tokenizer FOLDER --megabytes 50 500`` measures CPU-seconds of all
processes, peak PSS and whether the bytes are the same. Every variant sees the text once: repeated text would flatter the
caches of the encoders.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Comparison
from megatron_style_data.indexed_dataset import path_bin, path_idx
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_documents

_VARIANTS = ("ours", "encode_batch_fast", "encode")
_BATCH_DOCUMENTS = 1000
_SECONDS_BETWEEN_SAMPLES = 0.05


@dataclass(frozen=True)
class Measured:
    """One build.

    Attributes:
        cpu_seconds: Of all its processes.
        wall_seconds: From start to end.
        peak_bytes: Most memory of all its processes together (PSS: shared pages count once).
    """

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


def main() -> None:
    """Prints the rows for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="JSON lines without compression")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[50.0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=_VARIANTS, default=list(_VARIANTS))
    arguments = parser.parse_args()
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as name:
            corpus = Path(name) / "corpus.jsonl"
            amount = write_first_megabytes(arguments.input, corpus, megabytes)
            print(f"{amount:.1f} MB of text, {arguments.workers} workers")
            found = {
                variant: measure(
                    command_of(variant, corpus, arguments.tokenizer, Path(name) / variant, arguments.workers)
                )
                for variant in arguments.variants
            }
            for variant, one in found.items():
                rate, ratio = amount / one.cpu_seconds, one.cpu_seconds / found["ours"].cpu_seconds
                print(
                    f"  {variant:<18} {one.cpu_seconds:7.1f} CPU-s  {one.wall_seconds:7.1f} s  {rate:5.1f} MB/CPU-s  "
                    f"{one.peak_bytes / 1e6:5.0f} MB peak PSS  ours is {ratio:.1f} times as fast  "
                    f"{'same bytes' if same_bytes(Path(name), variant) else 'OTHER BYTES'}",
                    flush=True,
                )


def run(corpus: list[Path], tokenizer: Path, folder: Path) -> Comparison:
    """The row of the table: one worker each on a small corpus, start and checks included."""
    plain = folder / "corpus.jsonl"
    with plain.open("w") as file:
        for source in expand_inputs([str(path) for path in corpus]):
            for document in read_documents(source, ReadOptions(), ReadCounters()):
                file.write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
    amount = plain.stat().st_size / 1e6
    ours, theirs = (
        measure(command_of(variant, plain, tokenizer, folder / variant, 1)) for variant in ("ours", "encode_batch_fast")
    )
    return Comparison(
        "build of the demo corpus, 1 worker",
        "the same with HF `encode_batch_fast`, no checks",
        "MB of text",
        amount / ours.cpu_seconds,
        amount / theirs.cpu_seconds,
        amount / ours.wall_seconds,
        amount / theirs.wall_seconds,
        1,
    )


def write_first_megabytes(source: Path, target: Path, megabytes: float) -> float:
    """Copies whole lines; returns how many MB."""
    written = 0
    with source.open("rb") as lines, target.open("wb") as file:
        for line in lines:
            if written >= megabytes * 1e6:
                break
            written += file.write(line)
    return written / 1e6


def command_of(variant: str, corpus: Path, tokenizer: Path, output: Path, workers: int) -> list[str]:
    """The command of one variant; all write documents in input order, none held out."""
    options = [
        "--input",
        str(corpus),
        "--tokenizer",
        str(tokenizer),
        "--output",
        str(output),
        "--workers",
        str(workers),
    ]
    if variant == "ours":
        return [sys.executable, "-m", "zhgpt.cli.main", "data", "build", *options, "--valid-fraction", "0"]
    return [sys.executable, "-c", "from benchmarks.data_build import baseline; baseline()", variant, *options]


def measure(command: Sequence[str]) -> Measured:
    """Runs a command to its end, looking at the memory of its processes now and then."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(pss_bytes, family(process.pid))))
        time.sleep(_SECONDS_BETWEEN_SAMPLES)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(cpu, time.perf_counter() - started, peak)


def family(process: int) -> Iterator[int]:
    """A process and all below it."""
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from family(int(child))


def pss_bytes(process: int) -> int:
    """Memory of a process, its part of shared pages included; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def same_bytes(folder: Path, variant: str) -> bool:
    """Whether a variant's .bin and .idx are ours."""
    return all(
        path(folder / "ours").read_bytes() == path(folder / variant).read_bytes() for path in (path_bin, path_idx)
    )


# --- the same build with HF tokenizers: one process a worker, each with a part of the lines ---


def baseline() -> None:
    """The command of a baseline: starts the workers, then writes .bin and .idx from what they wrote."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("--input", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--part", type=int)
    arguments = parser.parse_args()
    if arguments.part is not None:
        encode_part(arguments)
        return
    program = "from benchmarks.data_build import baseline; baseline()"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, *sys.argv[1:], "--part", str(part)],
            env={**os.environ, "RAYON_NUM_THREADS": "1"},
        )
        for part in range(arguments.workers)
    ]
    for worker in workers:
        if worker.wait():
            raise RuntimeError("a worker failed")
    parts = [Path(f"{arguments.output}.{part}") for part in range(arguments.workers)]
    lengths = np.concatenate([np.fromfile(f"{part}.lengths", np.int32) for part in parts])
    with path_bin(arguments.output).open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    ends = np.cumsum(lengths, dtype=np.int64) * 2
    with path_idx(arguments.output).open("wb") as file:
        file.write(b"MMIDIDX\x00\x00" + np.array([1], "<u8").tobytes() + b"\x08")
        file.write(np.array([len(lengths), len(lengths) + 1], "<u8").tobytes())
        for array in (lengths, ends - 2 * lengths, np.arange(len(lengths) + 1, dtype=np.int64)):
            file.write(array.tobytes())


def encode_part(arguments: argparse.Namespace) -> None:
    """One worker: the lines of its part of the file, in batches of 1,000 documents or one by one."""
    from dataclasses import replace

    from megatron_style_data.readers.parts import FilePart
    from megatron_style_data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(arguments.tokenizer)
    encode: Any = getattr(tokenizer, "_plain")  # noqa: B009 - the library's tokenizer that takes texts as plain text
    end_of_text = tokenizer.end_of_text_id
    size, number, workers = arguments.input.stat().st_size, arguments.part, arguments.workers
    (file,) = expand_inputs([str(arguments.input)])
    part = replace(file, part=FilePart(size * number // workers, size * (number + 1) // workers))
    documents = (document.text for document in read_documents(part, ReadOptions(), ReadCounters()))
    lengths: list[int] = []
    with Path(f"{arguments.output}.{number}").open("wb") as out:
        while batch := list(next_of(documents, _BATCH_DOCUMENTS if arguments.variant == "encode_batch_fast" else 1)):
            if arguments.variant == "encode_batch_fast":
                ids = [one.ids for one in encode.encode_batch_fast(batch, add_special_tokens=False)]
            else:
                ids = [encode.encode(batch[0], add_special_tokens=False).ids]
            lengths += [len(one) + 1 for one in ids]
            out.write(np.array(list(chain.from_iterable([*one, end_of_text] for one in ids)), np.uint16).tobytes())
    np.array(lengths, np.int32).tofile(f"{arguments.output}.{number}.lengths")


def next_of(texts: Iterator[str], number: int) -> Iterator[str]:
    """The next texts, fewer at the end."""
    for _, text in zip(range(number), texts, strict=False):
        yield text


if __name__ == "__main__":
    main()
