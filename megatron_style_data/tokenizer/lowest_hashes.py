"""A bounded, even sample of texts in one pass: their chunks with the lowest hashes, the same whatever the order."""

import heapq
from collections.abc import Iterator

import xxhash

from megatron_style_data.errors import SettingError

CHUNK_CHARACTERS = 2048


class LowestHashes:
    """The chunks with the lowest hashes of all that were offered, as many as fit; one that repeats counts once.

    Attributes:
        utf8_bytes: UTF-8 bytes of the chunks kept so far.
    """

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
        # (minus the hash, bytes, chunk): the highest hash is on top
        self._heap: list[tuple[int, int, str]] = []
        self._hashes: set[int] = set()
        self.utf8_bytes = 0
        self._limit = 1 << 64  # the lowest hash that did not fit; no higher one may come in any more

    def offer(self, text: str) -> None:
        """Takes what belongs to the sample of one more text."""
        for chunk in chunks_of(text):
            content = chunk.encode("utf-8")
            digest = xxhash.xxh3_64_intdigest(content)
            if digest >= self._limit or digest in self._hashes or len(content) > self._sample_bytes:
                continue
            heapq.heappush(self._heap, (-digest, len(content), chunk))
            self._hashes.add(digest)
            self.utf8_bytes += len(content)
            self._fit()

    def shrink(self, sample_bytes: int) -> None:
        """Keeps at most so many UTF-8 bytes from now on: what a smaller sample would have kept, if each chunk fits in it."""
        self._sample_bytes = min(self._sample_bytes, sample_bytes)
        self._fit()

    def chunks(self) -> list[tuple[int, str]]:
        """The chunks kept so far with their hashes, in their order."""
        return [(-negative, chunk) for negative, _, chunk in sorted(self._heap, reverse=True)]

    def _fit(self) -> None:
        while self.utf8_bytes > self._sample_bytes:
            negative, size, _ = heapq.heappop(self._heap)
            self._limit = -negative
            self._hashes.remove(self._limit)
            self.utf8_bytes -= size


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
