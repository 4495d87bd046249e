"""The bounded sample of a corpus that a tokenizer is trained on: uniform over the text, the same whatever the order.

Texts are cut into chunks, and of all chunks those with the lowest hash are kept, as many as fit. That is one pass in
bounded memory, it does not favour the first files, and a chunk that occurs many times counts once. Every source keeps
its share of the text, but for what it repeats.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import xxhash

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, read_documents, refuse_empty_corpus

# UTF-8 bytes. Memory and time of training grow with it, and the compression hardly does.
DEFAULT_SAMPLE_BYTES = 64_000_000
# UTF-8 bytes read to draw that sample.
DEFAULT_SCAN_BYTES = 8_000_000_000
CHUNK_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class TextSample:
    """Chunks of text.

    Attributes:
        texts: The chunks, in the order of their hashes.
        utf8_bytes: Their UTF-8 bytes.
        read_documents: Documents that were read.
        read_bytes: UTF-8 bytes that were read.
        sources: UTF-8 bytes read and kept of each source.
    """

    texts: tuple[str, ...]
    utf8_bytes: int
    read_documents: int
    read_bytes: int
    sources: Mapping[str, tuple[int, int]]

    @property
    def characters(self) -> int:
        """Length of all chunks in characters."""
        return sum(map(len, self.texts))


def sample_corpus(
    files: Sequence[InputFile],
    options: ReadOptions,
    counters: ReadCounters,
    *,
    sample_bytes: int = DEFAULT_SAMPLE_BYTES,
    scan_bytes: int = DEFAULT_SCAN_BYTES,
    on_progress: Callable[[int], None] | None = None,
) -> TextSample:
    """Draws a sample from the files of a corpus.

    Args:
        files: The corpus.
        options: How to read it.
        counters: Counts what is read and dropped.
        sample_bytes: Most UTF-8 bytes to keep.
        scan_bytes: Most UTF-8 bytes to read. A larger corpus is read from the beginning of each file, each in
            proportion to its size on the disk.
        on_progress: Called now and then with the UTF-8 bytes read so far.

    Raises:
        SettingError: A limit that is not positive.
        BadDataError: The corpus is empty, or what ``read_documents`` raises.
    """
    if scan_bytes <= 0:
        raise SettingError(f"scan_bytes {scan_bytes} is not positive.")
    lowest = LowestHashes(sample_bytes)
    read: dict[str, int] = {}
    for text, source in _texts(files, options, counters, scan_bytes, on_progress):
        read[source] = read.get(source, 0) + _utf8_bytes(text)
        lowest.offer(text, source)
    kept = lowest.chunks()
    if counters.documents == 0:
        refuse_empty_corpus(files, counters)
    if not kept:
        raise BadDataError(f"no text fits into sample_bytes {sample_bytes}; take a larger sample.")
    sources = {source: (size, 0) for source, size in read.items()}
    for chunk, source in kept:
        sources[source] = (sources[source][0], sources[source][1] + _utf8_bytes(chunk))
    texts = tuple(chunk for chunk, _ in kept)
    return TextSample(texts, sum(map(_utf8_bytes, texts)), counters.documents, counters.utf8_bytes, sources)


def sample_texts(texts: Iterable[str], sample_bytes: int) -> list[str]:
    """Keeps the chunks of ``texts`` with the lowest hashes, at most ``sample_bytes`` UTF-8 bytes, in hash order.

    Raises:
        SettingError: ``sample_bytes`` is not positive.
    """
    kept = LowestHashes(sample_bytes)
    for text in texts:
        kept.offer(text)
    return [chunk for chunk, _ in kept.chunks()]


class LowestHashes:
    """The chunks with the lowest hashes of all that were offered, as many as fit."""

    def __init__(self, sample_bytes: int) -> None:
        """Starts empty.

        Args:
            sample_bytes: Most UTF-8 bytes to keep.

        Raises:
            SettingError: ``sample_bytes`` is not positive.
        """
        if sample_bytes <= 0:
            raise SettingError(f"sample_bytes {sample_bytes} is not positive.")
        self._sample_bytes = sample_bytes
        # (minus the hash, bytes, chunk, source): the highest hash is on top
        self._heap: list[tuple[int, int, str, str]] = []
        self._hashes: set[int] = set()
        self._total = 0
        self._limit = 1 << 64  # the lowest hash that did not fit; no higher one may come in any more

    def offer(self, text: str, source: str = "") -> None:
        """Takes what belongs to the sample of one more text."""
        for chunk in chunks_of(text):
            content = chunk.encode("utf-8")
            digest = xxhash.xxh3_64_intdigest(content)
            if digest >= self._limit or digest in self._hashes or len(content) > self._sample_bytes:
                continue
            heapq.heappush(self._heap, (-digest, len(content), chunk, source))
            self._hashes.add(digest)
            self._total += len(content)
            while self._total > self._sample_bytes:
                negative, size, _, _ = heapq.heappop(self._heap)
                self._limit = -negative
                self._hashes.remove(self._limit)
                self._total -= size

    def chunks(self) -> list[tuple[str, str]]:
        """The chunks kept so far, each with its source, in the order of their hashes."""
        return [(chunk, source) for _, _, chunk, source in sorted(self._heap, reverse=True)]


def chunks_of(text: str, most: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """Cuts a text into chunks of at most ``most`` characters, after a line end where there is one."""
    start = 0
    while len(text) - start > most:
        end = text.rfind("\n", start, start + most) + 1
        if end <= start:
            end = start + most
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _texts(
    files: Sequence[InputFile],
    options: ReadOptions,
    counters: ReadCounters,
    scan_bytes: int,
    on_progress: Callable[[int], None] | None,
) -> Iterator[tuple[str, str]]:
    on_disk = [_bytes_on_disk(file) for file in files]
    for file, size in zip(files, on_disk, strict=True):
        stop_at = counters.utf8_bytes + scan_bytes * size // sum(on_disk)
        for document in read_documents(file, options, counters):
            yield document.text, document.source
            if on_progress is not None:
                on_progress(counters.utf8_bytes)
            if counters.utf8_bytes >= stop_at:
                break


def _bytes_on_disk(file: InputFile) -> int:
    try:
        return max(1, file.path.stat().st_size)
    except OSError:  # reading it will say what is wrong
        return 1


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8"))
