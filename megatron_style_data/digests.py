"""Checksums of large files, taken while they are written or read: one for the whole and one for each block."""

from collections.abc import Iterator
from pathlib import Path

import xxhash

# At most this many blocks a file keep the manifest small; smaller blocks than this would not help anybody to look.
_MAXIMUM_BLOCKS = 4096
_MINIMUM_BLOCK_BYTES = 1 << 16
_BLOCK_DIGITS = 16
_READ_BYTES = 1 << 22


def block_bytes_for(file_bytes: int) -> int:
    """Block size for a file of this size: a power of two, at least 64 KiB, that gives at most 4096 blocks."""
    size = _MINIMUM_BLOCK_BYTES
    while size * _MAXIMUM_BLOCKS < file_bytes:
        size *= 2
    return size


class BlockDigest:
    """Collects the bytes of a file in order; `whole` is xxh3-128, `blocks` the xxh3-64 of each block in one string."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self._whole = xxhash.xxh3_128()
        self._blocks: list[str] = []
        self._block = xxhash.xxh3_64()
        self._in_block = 0
        self.bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes of the file."""
        view = memoryview(data).cast("B")
        self._whole.update(view)
        self.bytes += len(view)
        while len(view):
            part = view[: self.block_bytes - self._in_block]
            self._block.update(part)
            self._in_block += len(part)
            view = view[len(part) :]
            if self._in_block == self.block_bytes:
                self._close_block()

    @property
    def whole(self) -> str:
        """32 hexadecimal digits."""
        return self._whole.hexdigest()

    @property
    def blocks(self) -> str:
        """16 hexadecimal digits for each block; the last block may be shorter than the others."""
        open_block = [self._block.hexdigest()] if self._in_block else []
        return "".join(self._blocks + open_block)

    def _close_block(self) -> None:
        self._blocks.append(self._block.hexdigest())
        self._block = xxhash.xxh3_64()
        self._in_block = 0


def file_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, 4 MiB at a time."""
    with open(path, "rb") as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk


def differing_blocks(found: str, expected: str) -> list[int]:
    """Numbers of the blocks whose checksums differ; lengths must be equal."""
    return [
        start // _BLOCK_DIGITS
        for start in range(0, len(expected), _BLOCK_DIGITS)
        if found[start : start + _BLOCK_DIGITS] != expected[start : start + _BLOCK_DIGITS]
    ]
