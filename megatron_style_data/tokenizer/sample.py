"""The bounded, stratified sample of a corpus that a tokenizer is trained on.

Each source (a file, or a folder of very many) has a quota: its share of the text that was read. Within a source the text
is cut into chunks, of which those with the lowest hashes are kept, as many as fit: that favours no place in it, and a
chunk that occurs many times counts once. What a source cannot fill, as it repeats itself, goes to the others. It is one
pass in bounded memory, and the sample does not depend on the order of the files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.readers import InputFile, ReadCounters, ReadOptions, read_documents, refuse_empty_corpus
from megatron_style_data.readers.source_names import source_names
from megatron_style_data.tokenizer.lowest_hashes import CHUNK_CHARACTERS, LowestHashes

# UTF-8 bytes. Memory and time of training grow with it, and the compression hardly does.
DEFAULT_SAMPLE_BYTES = 64_000_000
# UTF-8 bytes read to draw that sample.
DEFAULT_SCAN_BYTES = 8_000_000_000
# Every source may give so much, however small its share: any one chunk fits.
_LEAST_QUOTA_BYTES = 4 * CHUNK_CHARACTERS
# Chunks of finished sources are given up when they exceed the sample so many times.
_SLACK = 2
_HALVINGS = 50


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
    if sample_bytes <= 0:
        raise SettingError(f"sample_bytes {sample_bytes} is not positive.")
    if scan_bytes <= 0:
        raise SettingError(f"scan_bytes {scan_bytes} is not positive.")
    names = source_names(files)
    strata = _Strata(sample_bytes, len(set(names)))
    for text, source in _texts(files, names, options, counters, scan_bytes, on_progress):
        strata.offer(text, source)
    if counters.documents == 0:
        refuse_empty_corpus(files, counters)
    kept = strata.chunks()
    if not kept:
        raise BadDataError(f"no text fits into sample_bytes {sample_bytes}; take a larger sample.")
    sizes = dict.fromkeys(strata.read, 0)
    for chunk, source in kept:
        sizes[source] += _utf8_bytes(chunk)
    return TextSample(
        texts=tuple(chunk for chunk, _ in kept),
        utf8_bytes=sum(sizes.values()),
        read_documents=counters.documents,
        read_bytes=counters.utf8_bytes,
        sources={source: (read, sizes[source]) for source, read in strata.read.items()},
    )


def quotas(held: Mapping[str, int], read: Mapping[str, int], sample_bytes: int, least_bytes: int) -> dict[str, int]:
    """Divides a sample among sources in proportion to what was read of them; what one does not have goes to the others.

    Args:
        held: UTF-8 bytes that each source could give.
        read: UTF-8 bytes that were read of it, at least as many.
        sample_bytes: UTF-8 bytes to divide.
        least_bytes: What each may give at least.
    """

    def given(rate: float) -> dict[str, int]:
        return {source: min(size, max(least_bytes, int(rate * read[source]))) for source, size in held.items()}

    if sum(held.values()) <= sample_bytes:
        return dict(held)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(given(middle).values()) <= sample_bytes else (low, middle)
    return given(low)


class _Strata:
    """The lowest hashes of each source. Sources come one after the other, each whole.

    A source's quota only falls while others are read, so chunks of a finished one can be given up before the end.

    Attributes:
        read: UTF-8 bytes read of each source.
    """

    def __init__(self, sample_bytes: int, sources: int) -> None:
        self._sample_bytes = sample_bytes
        self._least_bytes = min(_LEAST_QUOTA_BYTES, sample_bytes // (2 * max(1, sources)))
        self._lowest: dict[str, LowestHashes] = {}
        self.read: dict[str, int] = {}

    def offer(self, text: str, source: str) -> None:
        if source not in self._lowest:
            if sum(lowest.utf8_bytes for lowest in self._lowest.values()) > _SLACK * self._sample_bytes:
                self._shrink()
            self._lowest[source], self.read[source] = LowestHashes(self._sample_bytes), 0
        self.read[source] += _utf8_bytes(text)
        self._lowest[source].offer(text)

    def chunks(self) -> list[tuple[str, str]]:
        """(chunk, source) in the order of the hashes, each chunk once."""
        self._shrink()
        found: dict[int, tuple[str, str]] = {}
        for source, lowest in self._lowest.items():
            for digest, chunk in lowest.chunks():
                found.setdefault(digest, (chunk, source))
        return [found[digest] for digest in sorted(found)]

    def _shrink(self) -> None:
        held = {source: lowest.utf8_bytes for source, lowest in self._lowest.items()}
        for source, quota in quotas(held, self.read, self._sample_bytes, self._least_bytes).items():
            self._lowest[source].shrink(quota)


def _texts(
    files: Sequence[InputFile],
    names: Sequence[str],
    options: ReadOptions,
    counters: ReadCounters,
    scan_bytes: int,
    on_progress: Callable[[int], None] | None,
) -> Iterator[tuple[str, str]]:
    """Yields (text, source), one source after the other."""
    on_disk = [_bytes_on_disk(file) for file in files]
    for number in sorted(range(len(files)), key=lambda number: (names[number], number)):
        stop_at = counters.utf8_bytes + scan_bytes * on_disk[number] // sum(on_disk)
        for document in read_documents(files[number], options, counters):
            yield document.text, names[number]
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
