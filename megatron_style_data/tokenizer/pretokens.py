"""Counts the distinct pieces that ``SPLIT_PATTERN`` cuts texts into: what byte-level BPE is trained on.

The expression is a scanner here, branch by branch, over the classes of the characters; a test holds it against HF
tokenizers' own cut. Only ``merge_learning`` and its users import this module: it needs numba.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.compiled import Array, Int, compiled, compiled_inner
from megatron_style_data.tokenizer.interning import Interned, intern
from megatron_style_data.tokenizer.split_pattern import LETTER, LINE_END, NUMBER, OTHER, SPACE, CharacterClasses

_BATCH_CHARACTERS = 1 << 18


@dataclass(frozen=True, slots=True)
class Pretokens:
    """Distinct pieces of text and how often each occurs.

    Attributes:
        content: The UTF-8 bytes of all pieces, one after another.
        starts: (pieces + 1,) where each begins in ``content``.
        counts: (pieces,) occurrences.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Each piece with its count."""
        for number, count in enumerate(self.counts.tolist()):
            yield self.content[self.starts[number] : self.starts[number + 1]].tobytes(), count


def count_pretokens(texts: Iterable[str], on_progress: Callable[[int], None] | None = None) -> Pretokens:
    """Counts the pieces of ``texts``; memory grows with the distinct ones only.

    Args:
        texts: The texts; each is cut by itself.
        on_progress: Called now and then with the number of characters counted so far.
    """
    interned, counts = Interned(), np.zeros(1024, np.int64)
    classes, done = CharacterClasses(), 0
    for points, ends in _batches(texts):
        classes.learn(points)
        interned.reserve(entries=len(points), content_bytes=4 * len(points))
        if len(counts) < len(interned.starts):
            counts = np.concatenate((counts, np.zeros(len(interned.starts) - len(counts), np.int64)))
        interned.used = _count_batch(points, ends, classes.table, *interned.arrays(), counts, interned.used)
        done += len(points)
        if on_progress is not None:
            on_progress(done)
    content, starts = interned.result()
    return Pretokens(content, starts, counts[: interned.used].copy())


def pieces_of(text: str) -> list[str]:
    """The pieces of one text, in order (for tests and for showing)."""
    points = _code_points(text)
    classes = CharacterClasses()
    classes.learn(points)
    ends = _piece_ends(points, classes.table)
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _batches(texts: Iterable[str]) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
    """Code points of several texts together, and where each text ends."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield _code_points("".join(held)), np.cumsum([len(one) for one in held])
            held, size = [], 0
    if size:
        yield _code_points("".join(held)), np.cumsum([len(one) for one in held])


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


# From here on: compiled. Types are left to numba; a cache on the disk would be written into the installed package.


@compiled
def _piece_ends(points: Array, classes: Array) -> list[int]:
    ends = [0 for _ in range(0)]
    at, end = np.int64(0), np.int64(len(points))
    while at < end:
        at = _piece_end(points, at, end, classes)
        ends.append(at)
    return ends


@compiled
def _count_batch(
    points: Array,
    text_ends: Array,
    classes: Array,
    content: Array,
    starts: Array,
    hashes: Array,
    slots: Array,
    counts: Array,
    used: Int,
) -> Int:
    at = np.int64(0)
    for text_end in text_ends:
        while at < text_end:
            end = _piece_end(points, at, text_end, classes)
            write = _write_utf8(points, at, end, content, starts[used])
            number = intern(content, starts, hashes, slots, used, write)
            if number == used:
                used += 1
            counts[number] += 1
            at = end
    return used


@compiled_inner
def _piece_end(points: Array, at: Int, end: Int, classes: Array) -> Int:
    """Where the piece that begins at ``at`` ends, at most ``end``."""
    first = classes[points[at]]
    if points[at] == 0x27:  # an apostrophe
        after = _after_contraction(points, at, end)
        if after > at:
            return after
    letters = at if first == LETTER else at + 1
    if first != NUMBER and first != LINE_END and letters < end and classes[points[letters]] == LETTER:
        return _run_end(points, letters, end, classes, LETTER)
    if first == NUMBER:
        return at + 1
    others = at + 1 if points[at] == 0x20 else at
    if others < end and classes[points[others]] == OTHER:
        return _run_end(points, _run_end(points, others, end, classes, OTHER), end, classes, LINE_END)
    return _space_end(points, at, end, classes)


@compiled_inner
def _space_end(points: Array, at: Int, end: Int, classes: Array) -> Int:
    """The last three branches: up to the last line end of the space, else all of it but the character before a word."""
    run, after_line_end = at, at
    while run < end and (classes[points[run]] == SPACE or classes[points[run]] == LINE_END):
        run += 1
        if classes[points[run - 1]] == LINE_END:
            after_line_end = run
    if after_line_end > at:
        return after_line_end
    return run if run == end or run == at + 1 else run - 1


@compiled_inner
def _run_end(points: Array, at: Int, end: Int, classes: Array, wanted: Int) -> Int:
    while at < end and classes[points[at]] == wanted:
        at += 1
    return at


@compiled_inner
def _after_contraction(points: Array, at: Int, end: Int) -> Int:
    """Where an English ending after the apostrophe at ``at`` ends; ``at``: there is none."""
    first = _lower_case(points, at + 1, end)
    if first == 0x73 or first == 0x64 or first == 0x6D or first == 0x74:  # s, d, m, t
        return at + 2
    second = _lower_case(points, at + 2, end)
    if (first == 0x6C and second == 0x6C) or (second == 0x65 and (first == 0x72 or first == 0x76)):  # ll, re, ve
        return at + 3
    return at


@compiled_inner
def _lower_case(points: Array, at: Int, end: Int) -> Int:
    """A letter of ASCII in lower case, with the long s as the s that it folds to; 0: another character, or none."""
    if at >= end or (points[at] >= 0x80 and points[at] != 0x17F):
        return 0
    return 0x73 if points[at] == 0x17F else points[at] | 0x20


@compiled_inner
def _write_utf8(points: Array, at: Int, end: Int, content: Array, write: Int) -> Int:
    for index in range(at, end):
        point = points[index]
        if point < 0x80:
            content[write] = point
            write += 1
            continue
        if point < 0x800:
            content[write] = 0xC0 | point >> 6
            write += 1
        else:
            if point < 0x10000:
                content[write] = 0xE0 | point >> 12
                write += 1
            else:
                content[write] = 0xF0 | point >> 18
                content[write + 1] = 0x80 | (point >> 12 & 0x3F)
                write += 2
            content[write] = 0x80 | (point >> 6 & 0x3F)
            write += 1
        content[write] = 0x80 | (point & 0x3F)
        write += 1
    return write
