"""Deduplication against the truth and against its bound: ``brute-force`` compares all pairs, ``memory`` counts bytes."""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from megatron_style_data.deduplication import DuplicateSettings, find_duplicates
from megatron_style_data.deduplication.folding import fold
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_documents

_SHARDS = 10
_CHARACTERS = 40


def main() -> None:
    """Runs one of the two and prints what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    against = commands.add_parser("brute-force", help="recall and precision on the first documents of some files")
    against.add_argument("files", nargs="+")
    against.add_argument("--documents", type=int, default=2000, help="of all files together")
    against.add_argument("--threshold", type=float, default=0.8)
    bound = commands.add_parser("memory", help="peak memory on documents made up for it")
    bound.add_argument("--documents", type=int, default=5_000_000)
    bound.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.command == "memory":
            memory(Path(name), arguments.documents, arguments.workers)
        else:
            brute_force(Path(name), arguments.files, arguments.documents, arguments.threshold)


def brute_force(folder: Path, files: list[str], documents: int, threshold: float) -> None:
    """Prints recall and precision of pairs that share a cluster against all pairs with a similarity of the threshold."""
    texts = [text for file in files for text in first_texts(file, documents // len(files))]
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    found = find_duplicates([path], DuplicateSettings(threshold=threshold), folder / "work", 1)
    truth = similarity_of_all(texts)
    together = found.keepers[:, None] == found.keepers[None, :]
    upper = np.triu_indices(len(texts), 1)
    alike, joined = truth[upper] >= threshold, together[upper]
    dropped = np.flatnonzero(found.dropped(0))
    kept_for = truth[dropped, found.keepers[dropped]]
    print(f"{len(texts):,} documents, {alike.sum():,} pairs with a similarity of at least {threshold}")
    print(f"pairs found {joined.sum():,}: recall {(alike & joined).sum() / alike.sum():.4f}, ", end="")
    print(f"precision {(alike & joined).sum() / joined.sum():.4f}")
    print(f"dropped {len(dropped):,}, of them {(kept_for >= threshold).mean():.4f} that like what was kept for them")
    print(found.counts)


def first_texts(file: str, documents: int) -> list[str]:
    """The first documents of a corpus file."""
    (corpus,) = expand_inputs([file])
    reading = read_documents(corpus, ReadOptions(), ReadCounters())
    return [document.text for document, _ in zip(reading, range(documents), strict=False)]


def similarity_of_all(texts: list[str]) -> NDArray[np.float64]:
    """True Jaccard similarity of every pair, (texts, texts), by Python sets of the shingles themselves."""
    sets: list[set[str]] = []
    for text in texts:
        folded = fold(text)
        # A text shorter than a shingle is like another one if it is the same.
        sets.append({folded[place : place + 5] for place in range(max(1, len(folded) - 4))})
    result = np.eye(len(sets))
    for first, one in enumerate(sets):
        for second in range(first):
            common = len(one & sets[second])
            result[first, second] = result[second, first] = common / (len(one) + len(sets[second]) - common)
    return result


def memory(folder: Path, documents: int, workers: int) -> None:
    """Prints the peak memory and time of finding the duplicates in synthetic documents, four fifths of them fresh."""
    shards = [folder / f"part-{number:05d}.jsonl.zst" for number in range(_SHARDS)]
    for number, shard in enumerate(shards):
        write_synthetic(shard, number, documents // _SHARDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    found = find_duplicates(shards, DuplicateSettings(), folder / "work", workers, lambda what: print(what, flush=True))
    seconds = time.perf_counter() - started
    on_disk = sum(file.stat().st_size for file in (folder / "work").rglob("*") if file.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(found.counts)
    print(f"{seconds:,.0f} s; peak memory {peak / 1024:,.0f} MiB (before it {before / 1024:,.0f}), ", end="")
    print(f"largest worker {workers_peak / 1024:,.0f} MiB; signatures on the disk {on_disk / 1e9:.2f} GB")


def write_synthetic(path: Path, shard: int, documents: int) -> None:
    """Documents of 40 characters; every tenth one is an exact and every tenth one a near copy of one before."""
    mine, others = characters_of(shard, documents), characters_of(max(0, shard - 1), documents)
    exact, near = slice(3, None, 10), slice(7, None, 10)
    mine[exact] = others[: len(mine[exact])]
    mine[near] = others[: len(mine[near])]
    mine[near, -2:] = 0x3400  # 34 of 38 shingles in common
    texts = mine.tobytes().decode("utf-32-le")
    with open(path, "wb") as file, zstandard.ZstdCompressor(level=1).stream_writer(file) as packed:
        for first in range(0, len(texts), _CHARACTERS):
            packed.write(f'{{"text": "{texts[first : first + _CHARACTERS]}"}}\n'.encode())


def characters_of(shard: int, documents: int) -> NDArray[np.uint32]:
    """The fresh documents of a shard, as code points, (documents, 40) uint32."""
    return np.random.default_rng(shard).integers(0x4E00, 0x9FA0, (documents, _CHARACTERS), np.uint32)


if __name__ == "__main__":
    main()
