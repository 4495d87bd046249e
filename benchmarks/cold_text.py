"""Text that an encoder has not seen before, as much as is wanted, from a corpus that may be smaller.

Repeated text flatters the caches of encoders. So where a corpus is too small its documents come again with the halves of
their clauses exchanged: each run of four or more Han characters gets its second half from another run, some thousand runs
before it, another number of runs in each pass. Characters and their frequent neighbours stay, whole clauses do not come
again.
"""

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from megatron_style_data.readers import ReadCounters, ReadOptions, expand_inputs, read_corpus

_RUN = re.compile(r"[\u4e00-\u9fff]{4,}")
_RUNS_BETWEEN_HALVES = 4999


@dataclass(frozen=True)
class ColdText:
    """What was written, in bytes of UTF-8.

    Attributes:
        text_bytes: All of it, without the JSON around it.
        recombined_bytes: What of it has exchanged halves.
        documents: How many there are.
    """

    text_bytes: int
    recombined_bytes: int
    documents: int


@dataclass
class Halves:
    """Exchanges second halves of runs of Han characters with those of a run ``distance`` runs before.

    Attributes:
        distance: How many runs lie between; the first runs get the halves that come round last and stay as they are.
        waiting: Second halves that wait to be taken.
    """

    distance: int
    waiting: deque[str] = field(default_factory=deque)

    def exchange(self, text: str) -> str:
        """The text with other second halves."""
        return _RUN.sub(lambda run: self._other(run.group()), text)

    def _other(self, run: str) -> str:
        middle = len(run) // 2
        self.waiting.append(run[middle:])
        return run[:middle] + (self.waiting.popleft() if len(self.waiting) > self.distance else run[middle:])


def write_cold_text(corpus: list[Path], target: Path, megabytes: float, cut_bytes: int | None = None) -> ColdText:
    """Writes JSON lines with so much text, drawn evenly from the whole corpus.

    Args:
        corpus: Files that `zhgpt corpus read` takes.
        target: The file to write.
        megabytes: Text wanted, in 10^6 bytes of UTF-8; a document more at most.
        cut_bytes: Cuts documents at the first line end from so many bytes on; None: they stay whole.
    """
    whole = sum(len(text.encode()) for text in texts_of(corpus))
    written = recombined = documents = number = 0
    with target.open("w", encoding="utf-8") as file:
        while written < megabytes * 1e6:
            wanted = min(megabytes * 1e6 - written, whole)
            halves = Halves(_RUNS_BETWEEN_HALVES * number)
            for text in evenly(texts_of(corpus), wanted / whole):
                shown = halves.exchange(text) if number else text
                for piece in [shown] if cut_bytes is None else cut(shown, cut_bytes):
                    file.write(json.dumps({"text": piece}, ensure_ascii=False) + "\n")
                    size = len(piece.encode())
                    written, documents = written + size, documents + 1
                    recombined += size if number else 0
            number += 1
    return ColdText(written, recombined, documents)


def cut(text: str, least_bytes: int) -> Iterator[str]:
    """The text in pieces of whole lines, of at least so many bytes but the last."""
    held: list[str] = []
    size = 0
    for line in text.split("\n"):
        held.append(line)
        size += len(line.encode())
        if size >= least_bytes:
            yield "\n".join(held)
            held, size = [], 0
    if size and not (rest := "\n".join(held)).isspace():
        yield rest


def texts_of(corpus: list[Path]) -> Iterator[str]:
    """Texts of the corpus, in order."""
    files = expand_inputs([str(path) for path in corpus])
    return (document.text for document in read_corpus(files, ReadOptions(), ReadCounters()))


def evenly(texts: Iterator[str], share: float) -> Iterator[str]:
    """A share of the texts by their bytes, never more behind than one of them."""
    seen = taken = 0
    for text in texts:
        size = len(text.encode())
        seen += size
        if taken < share * seen:
            taken += size
            yield text
