"""The reading side of a build: documents in order, in batches, without those an interrupted build has encoded already."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from megatron_style_data.build_parts import BuildParts
from megatron_style_data.encoding import BATCH_CHARACTERS, text_hash
from megatron_style_data.encoding_processes import EncodeAll
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, read_documents, refuse_empty_corpus

# With more files than this their folders are the sources: the manifest stays small.
MAXIMUM_SOURCES = 1000
_BATCH_DOCUMENTS = 2048


def source_names(files: Sequence[InputFile], maximum: int = MAXIMUM_SOURCES) -> list[str]:
    """The source of each file: its own name, or a folder above it where there would be too many sources."""
    names = [file.source for file in files]
    while len(set(names)) > maximum:
        names = [str(PurePosixPath(name).parent) for name in names]
    return names


class CorpusReading:
    """One pass over the inputs of a build.

    Attributes:
        sources: Names of the sources, in the order of their first file.
        counters: What was read, changed and dropped, for each source.
        resumed_documents: Documents that were encoded already.
    """

    def __init__(self, files: Sequence[InputFile], options: ReadOptions, seed: int) -> None:
        """Prepares the reading of `files`; `seed` keys the hashes that recognise documents."""
        self._files = files
        self._options = options
        self._seed = seed
        self._names = source_names(files)
        self.sources = list(dict.fromkeys(self._names))
        self.counters = [ReadCounters() for _ in self.sources]
        self.resumed_documents = 0

    def encode_into(self, parts: BuildParts, encode: EncodeAll) -> Iterator[None]:
        """Encodes what `parts` lacks and appends it; yields after each batch.

        Raises:
            BadDataError: There is no document, or one cannot be read.
        """
        waiting: deque[list[int]] = deque()
        for encoded in encode(self._texts(parts, waiting)):
            parts.append(encoded, waiting.popleft())
            yield

    def total(self) -> ReadCounters:
        """The counters of all sources together."""
        total = ReadCounters()
        for counters in self.counters:
            total.add(counters)
        return total

    def _texts(self, parts: BuildParts, waiting: deque[list[int]]) -> Iterator[list[str]]:
        """Batches of new texts; the sources of each batch wait in `waiting` for its encoding."""
        for batch in _batches(self._new_documents(parts)):
            waiting.append([source for source, _ in batch])
            yield [text for _, text in batch]

    def _new_documents(self, parts: BuildParts) -> Iterator[tuple[int, str]]:
        """Source number and text of each document that `parts` does not begin with."""
        known = parts.records()[: parts.documents]
        numbers = {name: number for number, name in enumerate(self.sources)}
        position = 0
        for file, name in zip(self._files, self._names, strict=True):
            source = numbers[name]
            for document in read_documents(file, self._options, self.counters[source]):
                if position < len(known):
                    if self._is_known(known[position], source, document.text):
                        position += 1
                        self.resumed_documents = position
                        continue
                    known = known[:position]
                    parts.truncate(position)
                yield source, document.text
        if position < len(known):
            parts.truncate(position)
        if sum(counters.documents for counters in self.counters) == 0:
            refuse_empty_corpus(self._files, self.total())

    def _is_known(self, record: np.void, source: int, text: str) -> bool:
        return bool(record["source"] == source and record["hash"] == text_hash(text.encode(), self._seed))


def _batches(documents: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    characters = 0
    for source, text in documents:
        if batch and (characters + len(text) > BATCH_CHARACTERS or len(batch) == _BATCH_DOCUMENTS):
            yield batch
            batch, characters = [], 0
        batch.append((source, text))
        characters += len(text)
    if batch:
        yield batch
