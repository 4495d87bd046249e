"""The build of an indexed dataset with HF tokenizers, in batches or one call a document: the baseline of `data_build`.

``python -m benchmarks.hf_build VARIANT --input FILE --tokenizer FOLDER --output PREFIX --workers N`` starts one process a
worker, each with one thread and a part of the lines, and writes the .bin and .idx that ours writes. It reads the texts as
fast as ours does: only the encoding is another. No manifest, no checksums, no splits, no floor, nothing resumable.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from megatron_style_data.indexed_dataset import path_bin, path_idx
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs
from megatron_style_data.readers.parts import FilePart
from megatron_style_data.readers.text_batches import read_text_batches

VARIANTS = {"encode_batch_fast": 1000, "encode": 1}
"""Documents a call."""
_CHARACTERS_READ = 1 << 16


def main() -> None:
    """Starts the workers, then writes .bin and .idx from what they wrote; or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--part", type=int)
    arguments = parser.parse_args()
    if arguments.part is not None:
        encode_part(arguments)
        return
    command = [sys.executable, "-m", "benchmarks.hf_build", *sys.argv[1:]]
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    workers = [subprocess.Popen([*command, "--part", str(part)], env=environment) for part in range(arguments.workers)]
    exit_codes = [worker.wait() for worker in workers]
    if any(exit_codes):
        raise RuntimeError("a worker failed")
    write_dataset(arguments.output, [Path(f"{arguments.output}.{part}") for part in range(arguments.workers)])


def write_dataset(output: Path, parts: list[Path]) -> None:
    """Puts the parts one after the other."""
    lengths = np.concatenate([np.fromfile(f"{part}.lengths", np.int32) for part in parts])
    with path_bin(output).open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    ends = np.cumsum(lengths, dtype=np.int64) * 2
    with path_idx(output).open("wb") as file:
        file.write(b"MMIDIDX\x00\x00" + np.array([1], "<u8").tobytes() + b"\x08")
        file.write(np.array([len(lengths), len(lengths) + 1], "<u8").tobytes())
        for array in (lengths, ends - 2 * lengths, np.arange(len(lengths) + 1, dtype=np.int64)):
            file.write(array.tobytes())


def encode_part(arguments: argparse.Namespace) -> None:
    """One worker: the lines of its part of the file, in batches of documents or one by one."""
    from megatron_style_data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(arguments.tokenizer)
    encode: Any = getattr(tokenizer, "_plain")  # noqa: B009 - the library's tokenizer that takes texts as plain text
    end_of_text = tokenizer.end_of_text_id
    lengths: list[int] = []
    with Path(f"{arguments.output}.{arguments.part}").open("wb") as out:
        for batch in batches_of(texts_of_part(arguments), VARIANTS[arguments.variant]):
            if arguments.variant == "encode_batch_fast":
                ids = [one.ids for one in encode.encode_batch_fast(batch, add_special_tokens=False)]
            else:
                ids = [encode.encode(batch[0], add_special_tokens=False).ids]
            for one in ids:
                one.append(end_of_text)
                lengths.append(len(one))
                out.write(np.fromiter(one, np.uint16, len(one)).tobytes())
    np.array(lengths, np.int32).tofile(f"{arguments.output}.{arguments.part}.lengths")


def texts_of_part(arguments: argparse.Namespace) -> Iterator[str]:
    """The texts whose lines begin in the worker's part of the file."""
    size, number, workers = arguments.input.stat().st_size, arguments.part, arguments.workers
    (file,) = expand_inputs([str(arguments.input)])
    part = replace(file, part=FilePart(size * number // workers, size * (number + 1) // workers))
    batches = read_text_batches(part, ReadOptions(), ReadCounters(), _CHARACTERS_READ)
    return chain.from_iterable(batch.texts for batch in batches)


def batches_of(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    """The texts in lists of one size, the last one shorter."""
    while batch := [text for _, text in zip(range(size), texts, strict=False)]:
        yield batch


if __name__ == "__main__":
    main()
