"""The text that the hour's model of docs/recipe.md is trained on: whole sentences of one source that few documents share.

Statutes are full of each other. A line stays where none of its windows of 30 characters stands in more than so many
documents, so that what is held out is new and what is written cannot stand in the training text by formula.

    python -m benchmarks.prose_text CORPUS.jsonl.zst statutes.jsonl --source LawRefBook/Laws
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_write_text
from megatron_style_data.cleaning.windows import window_hashes
from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_corpus

WINDOW = 30
FEWEST_CHARACTERS = 200
_SPACES = re.compile(r"[ \t\u3000]+")
_MARKS = ("#", "<", "|", ">", "*", "-", "`")
_ENDS = tuple("。；：！？”）")


def sentence_lines(text: str) -> list[str]:
    """The lines that end as sentences do and are no marks of a page, with one space where there are several."""
    lines = (_SPACES.sub(" ", line).strip() for line in text.splitlines())
    return [line for line in lines if line.endswith(_ENDS) and not line.startswith(_MARKS)]


def without_shared_lines(documents: Iterable[list[str]], most_documents: int) -> Iterator[list[str]]:
    """Each document's lines without those of which a window of 30 characters stands in more documents.

    A line shorter than that is one window. Hashes of all windows are in memory: 8 bytes a character, twice.
    """
    texts = list(documents)
    common = _in_more_than(most_documents, texts)
    for lines in texts:
        yield [line for line in lines if not _meets(_windows(line), common)]


def _windows(line: str) -> NDArray[np.uint64]:
    codes = np.frombuffer(line.encode("utf-32-le"), np.uint32)
    return window_hashes(codes, min(WINDOW, len(codes)))


def _in_more_than(most_documents: int, texts: Iterable[list[str]]) -> NDArray[np.uint64]:
    """Sorted hashes of the windows of more documents."""
    once_each = [np.unique(np.concatenate([_windows(line) for line in lines])) for lines in texts if lines]
    if not once_each:
        return np.empty(0, np.uint64)
    values, counts = np.unique(np.concatenate(once_each), return_counts=True)
    return values[counts > most_documents]


def _meets(windows: NDArray[np.uint64], common: NDArray[np.uint64]) -> bool:
    if not len(common):
        return False
    places = np.minimum(np.searchsorted(common, windows), len(common) - 1)
    return bool((common[places] == windows).any())


def main() -> None:
    """Reads the corpus, writes the text, says how much stayed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prose_text", description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--source", default="", help="documents whose source begins so [default: all]")
    parser.add_argument("--most-documents", type=int, default=4, help="that may share a window [default: 4]")
    arguments = parser.parse_args()
    if not arguments.corpus.is_file():
        parser.error(f"{arguments.corpus}: no such file")
    found = (
        sentence_lines(document.text)
        for document in read_corpus(expand_inputs([str(arguments.corpus)]), ReadOptions(), ReadCounters())
        if str(document.fields.get("source", "")).startswith(arguments.source)
    )
    texts = ["\n".join(lines) for lines in without_shared_lines(found, arguments.most_documents)]
    stayed = [text for text in texts if len(text) >= FEWEST_CHARACTERS]
    if not stayed:
        parser.error(
            f"{arguments.corpus}: of {len(texts)} documents whose source begins with {arguments.source!r} none keeps "
            f"{FEWEST_CHARACTERS} characters; name another --source, or more --most-documents"
        )
    atomic_write_text(
        arguments.output, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in stayed)
    )
    print(f"{arguments.output}: {len(stayed):,} of {len(texts):,} documents, {sum(map(len, stayed)):,} characters")


if __name__ == "__main__":
    main()
