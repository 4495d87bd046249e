"""MinHash signatures, 128 permutations over character 5-grams, against rensa, which is given the shingles by Python.

``python -m benchmarks.minhash FILE...`` measures on the files' text, prints the step's parts and the mean error of the
estimates; ``run`` is the row of the table.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rensa import RMinHash

from benchmarks.measure import Comparison, compare
from megatron_style_data.deduplication import DuplicateSettings
from megatron_style_data.deduplication.fast import FastMinHash
from megatron_style_data.deduplication.folding import fold
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_corpus
from zhgpt.demo.plan import CORPUS

_SETTINGS = DuplicateSettings()
_BATCH_CHARACTERS = 1 << 20  # what the signature step takes at a time


def main() -> None:
    """Prints speed and error on some files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=list(CORPUS))
    parser.add_argument("--megabytes", type=float, default=50)
    arguments = parser.parse_args()
    texts = first_texts(arguments.files, arguments.megabytes * 1e6)
    row = compare_with_rensa(texts)
    print(f"{row.what}: {row.ours_per_cpu_second:,.0f} MB a CPU-second, ", end="")
    print(f"{row.baseline} {row.baseline_per_cpu_second:,.1f}: {row.ratio:.0f} times")
    for name, rate in rates_of_parts(texts).items():
        print(f"  {name}: {rate:,.0f} MB a CPU-second")
    for name, signatures in (("ours", ours_of), ("rensa", rensa_of)):
        print(f"mean error of the estimates, {name}: {mean_error(texts, signatures):.4f}")


def run(corpus: list[Path], name: str, megabytes: float = 50) -> Comparison:
    """The row of the table, on the first megabytes of a corpus, with the errors of both."""
    texts = first_texts(corpus, megabytes * 1e6)
    row = compare_with_rensa(texts)
    characters, size = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
    errors = [mean_error(texts, signatures) for signatures in (ours_of, rensa_of)]
    return replace(
        row,
        what=f"{row.what}, {name}",
        at_least="120 MB; error ≤ 0.04",
        notes=(
            f"mean error against the true Jaccard similarity {errors[0]:.4f} (rensa {errors[1]:.4f}); "
            f"{size / characters:.2f} bytes a character, {row.ours_per_cpu_second * characters / size:,.0f} M characters"
        ),
    )


def compare_with_rensa(texts: list[str]) -> Comparison:
    """Both on the same texts; ours also folds punctuation and width away."""
    batches = list(batches_of(texts))
    minhash = FastMinHash(_SETTINGS)
    minhash.signatures(minhash.fold(["编译一次"]))
    sample = texts[:: max(1, len(texts) // 500)]  # rensa is slow enough to be measured on a part
    rate = len("".join(sample).encode()) / len("".join(texts).encode())

    def ours() -> None:
        for batch in batches:
            minhash.signatures(minhash.fold(batch))

    row = compare(
        "MinHash signatures, 128 permutations, character 5-grams",
        ours,
        "rensa's RMinHash, shingles cut in Python",
        lambda: rensa_of(sample),
        amount=len("".join(texts).encode()) / 1e6,
        unit="MB of text",
        repeats=3,
    )
    return replace(
        row,
        baseline_per_cpu_second=row.baseline_per_cpu_second * rate,
        baseline_per_wall_second=row.baseline_per_wall_second * rate,
    )


def rates_of_parts(texts: list[str]) -> dict[str, float]:
    """MB of text a CPU-second of each part of the step."""
    minhash = FastMinHash(_SETTINGS)
    seconds = {"folding": 0.0, "hashes and minima": 0.0}
    for batch in batches_of(texts):
        began = time.process_time()
        folded = minhash.fold(batch)
        between = time.process_time()
        minhash.signatures(folded)
        seconds["folding"] += between - began
        seconds["hashes and minima"] += time.process_time() - between
    amount = len("".join(texts).encode()) / 1e6
    return {name: amount / each for name, each in seconds.items()}


def ours_of(texts: list[str]) -> np.ndarray:
    """Our signatures."""
    minhash = FastMinHash(_SETTINGS)
    return minhash.signatures(minhash.fold(texts))


def rensa_of(texts: list[str]) -> np.ndarray:
    """rensa's signatures of the texts as they are, in its quickest call for shingles that Python has cut."""
    shingles = [[text[place : place + 5] for place in range(len(text) - 4)] for text in texts]
    matrix = RMinHash.digests_from_token_sets(shingles, 128, 42)
    return np.array(matrix)


def mean_error(texts: list[str], signatures: Callable[[list[str]], np.ndarray], pairs: int = 1000) -> float:
    """Mean absolute error over pairs of a text and itself with a part replaced, evenly spread over similarities."""
    draw = random.Random(1)
    chosen = [fold(text)[:2000] for text in draw.sample(texts, min(len(texts), 3 * pairs))]
    firsts = [text for text in chosen if len(text) >= 50][:pairs]
    seconds = []
    for number, text in enumerate(firsts):
        kept = int(len(text) * draw.random())
        seconds.append(text[:kept] + firsts[(number + 1) % len(firsts)][kept : len(text)])
    estimates = (signatures(firsts) == signatures(seconds)).mean(axis=1)
    truth = [jaccard(one, other) for one, other in zip(firsts, seconds, strict=True)]
    return float(np.abs(estimates - np.array(truth)).mean())


def jaccard(one: str, other: str) -> float:
    """True similarity of two folded texts."""
    first, second = ({text[place : place + 5] for place in range(len(text) - 4)} for text in (one, other))
    return len(first & second) / len(first | second)


def first_texts(files: list[Path], most_bytes: float) -> list[str]:
    """Texts of the files until there are so many bytes."""
    texts, held = [], 0
    for document in read_corpus(expand_inputs([str(file) for file in files]), ReadOptions(), ReadCounters()):
        texts.append(document.text)
        held += len(document.text.encode())
        if held >= most_bytes:
            break
    return texts


def batches_of(texts: list[str]) -> Iterator[list[str]]:
    """The texts in batches as the signature step makes them."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


if __name__ == "__main__":
    main()
