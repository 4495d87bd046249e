"""Gives each distinct string of bytes a number: a hash table in arrays that compiled code fills."""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.compiled import Array, Int, compiled, compiled_inner

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(slots=True)
class Interned:
    """Strings of bytes, numbered from 0 in the order in which they came.

    Attributes:
        used: Number of strings.
        content: Their bytes, one after another, with room for more.
        starts: Where each begins in ``content``; entry ``used`` is where the next will.
        hashes: The hash of each.
        slots: Hash table of their numbers, -1 where free; a power of two, at most half full.
    """

    used: int = 0
    content: NDArray[np.uint8] = field(default_factory=lambda: np.empty(1 << 16, np.uint8))
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1024, np.int64))
    hashes: NDArray[np.uint32] = field(default_factory=lambda: np.empty(1024, np.uint32))
    slots: NDArray[np.int32] = field(default_factory=lambda: np.full(1024, -1, np.int32))

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint32], NDArray[np.int32]]:
        """``content``, ``starts``, ``hashes``, ``slots``: what ``intern`` takes."""
        return self.content, self.starts, self.hashes, self.slots

    def reserve(self, *, entries: int, content_bytes: int) -> None:
        """Makes room for so many further strings of so many bytes together."""
        self.content = _grown(self.content, int(self.starts[self.used]) + content_bytes)
        self.starts = _grown(self.starts, self.used + entries + 1)
        self.hashes = _grown(self.hashes, len(self.starts))
        wanted = 1 << (2 * (self.used + entries) - 1).bit_length()
        if wanted > len(self.slots):
            self.slots = np.full(wanted, -1, np.int32)
            _refill(self.slots, self.hashes, self.used)

    def add(self, string: bytes) -> int:
        """The number of one string, added where it is new."""
        self.reserve(entries=1, content_bytes=len(string))
        start = int(self.starts[self.used])
        self.content[start : start + len(string)] = np.frombuffer(string, np.uint8)
        number = int(intern(*self.arrays(), self.used, start + len(string)))
        self.used = max(self.used, number + 1)
        return number

    def result(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """``content`` and ``starts``, cut to what is used."""
        starts = self.starts[: self.used + 1].copy()
        return self.content[: starts[-1]].copy(), starts


def _grown(array: NDArray[Kind], wanted: int) -> NDArray[Kind]:
    if wanted <= len(array):
        return array
    larger = np.empty(max(wanted, len(array) * 3 // 2), array.dtype)
    larger[: len(array)] = array
    return larger


@compiled
def intern(content: Array, starts: Array, hashes: Array, slots: Array, used: Int, end: Int) -> Int:
    """The number of the string that was written from ``starts[used]`` to ``end``; ``used`` where it is a new one."""
    start = starts[used]
    digest = np.uint64(0xCBF29CE484222325)  # FNV-1a over the bytes, then mixed
    for index in range(start, end):
        digest = (digest ^ np.uint64(content[index])) * np.uint64(0x100000001B3)
    digest = (digest ^ (digest >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    short = np.uint32(digest >> np.uint64(32))
    mask = len(slots) - 1
    slot = np.int64(short) & mask
    while slots[slot] >= 0:
        number = slots[slot]
        if hashes[number] == short and _same(content, starts[number], starts[number + 1], start, end):
            return np.int64(number)
        slot = (slot + 1) & mask
    slots[slot] = used
    hashes[used] = short
    starts[used + 1] = end
    return np.int64(used)


@compiled_inner
def _same(content: Array, start: Int, end: Int, other: Int, other_end: Int) -> bool:
    if end - start != other_end - other:
        return False
    for index in range(end - start):  # noqa: SIM110 (numba compiles no generator)
        if content[start + index] != content[other + index]:
            return False
    return True


@compiled
def _refill(slots: Array, hashes: Array, used: Int) -> None:
    mask = len(slots) - 1
    for number in range(used):
        slot = np.int64(hashes[number]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = number
