"""Reads one JSON array of objects, or {"RECORDS": [ … ]}, item by item: a file of any size in bounded memory."""

import codecs
import re
from collections.abc import Iterator
from typing import Any

from megatron_style_data.errors import BadDataError
from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.byte_stream import byte_pieces
from megatron_style_data.readers.json_records import parse_object

# The array, or the object around it that database exports and GLM's copy of WuDao have.
ARRAY_START = re.compile(rb'\s*(?:\{\s*"RECORDS"\s*:\s*)?\[')
_START_BYTES = 1 << 12
_INSIDE_ARRAY = re.compile(rb'["{}\[\],]')
_INSIDE_ITEM = re.compile(rb'["{}\[\]]')
_INSIDE_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


def array_records(bad: BadDocuments) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """Yields (item number from 1, object, its bytes as UTF-8).

    Raises:
        BadDataError: No array, an array that is cut off, or a bad item is refused.
    """
    path, longest = bad.file.path, bad.options.max_document_bytes
    items = ArrayItems(longest)
    number = 0
    for piece in _array_pieces(bad):
        for item in items.feed(piece):
            number += 1
            place = f"item {number}"
            if item is None:
                bad.take("too_long", place, f"more than {longest} bytes")
                continue
            text = _as_text(item, place, bad)
            record = None if text is None else parse_object(text, place, bad, item)
            if record is not None:
                yield number, record, item
    if not items.closed:
        raise BadDataError(f"{path}: the JSON array is cut off after item {number}; get the whole file again.")
    if items.after.strip(b"} \t\r\n"):
        bad.take("not_json", f"item {number + 1}", f"{items.after.strip()[:20]!r} after the array's end", items.after)


def _as_text(item: bytes, place: str, bad: BadDocuments) -> str | None:
    try:
        return item.decode("utf-8")  # _array_pieces gives UTF-8 whatever the file is in
    except UnicodeDecodeError as error:
        if bad.encoding == "utf-8":
            return bad.decode(item, place)
        bad.take(f"invalid_{bad.encoding}", place, f"byte 0x{item[error.start]:02x} is not GB18030", item)
        return None


def _array_pieces(bad: BadDocuments) -> Iterator[bytes]:
    """The file as UTF-8 from the array's first item on."""
    pieces = _utf8_pieces(bad)
    start = b""
    for piece in pieces:
        start += piece
        if len(start) >= _START_BYTES:
            break
    begins = ARRAY_START.match(start)
    if begins is None:
        raise BadDataError(
            f"{bad.file.path}: begins with {start[:20]!r}; expected a JSON array, [ … ] or "
            '{"RECORDS": [ … ]} (JSON lines are the format jsonl).'
        )
    yield start[begins.end() :]
    yield from pieces


def _utf8_pieces(bad: BadDocuments) -> Iterator[bytes]:
    pieces = byte_pieces(bad.file.path)
    if bad.encoding == "utf-8":
        yield from pieces
        return
    # Bytes that are no character pass through as they are and make their item, and no other, bad.
    decoder = codecs.getincrementaldecoder(bad.encoding)("surrogateescape")
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")


class ArrayItems:
    """Cuts the bytes behind an array's ``[`` into its items, however the bytes come.

    Attributes:
        closed: Whether the array's ``]`` was met.
        after: Up to 4 KiB of what followed it.
    """

    def __init__(self, longest: int) -> None:
        """Items of more than ``longest`` bytes come out as None, and are not held."""
        self.closed = False
        self.after = b""
        self._longest = longest
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> Iterator[bytes | None]:
        """Yields the items that end in ``piece``."""
        at = begin = 0
        while not self.closed:
            if self._in_string:
                at, self._in_string = self._through_string(piece, at)
                if self._in_string:
                    break
                continue
            found = (_INSIDE_ITEM if self._depth else _INSIDE_ARRAY).search(piece, at)
            if found is None:
                break
            at = found.end()
            mark = found[0]
            if mark == b'"':
                self._in_string = True
            elif mark in (b"{", b"["):
                self._depth += 1
            elif self._depth:
                self._depth -= 1
            else:  # a comma between items, or the array's end
                yield from self._item(piece[begin : at - 1])
                begin = at
                self.closed = mark == b"]"
        if self.closed:
            self.after = (self.after + piece[begin:])[:_START_BYTES]
        else:
            self._hold(piece[begin:])

    def _through_string(self, piece: bytes, at: int) -> tuple[int, bool]:
        """Where the string ends, and False; or the end of the piece, and True."""
        if at == len(piece):
            return at, True
        found = _INSIDE_STRING.match(piece, at + self._escaped)
        self._escaped = False
        assert found is not None  # it matches nothing, too
        end = found.end()
        if piece[end : end + 1] == b'"':
            return end + 1, False
        # A backslash at the very end: what it escapes is in the next piece.
        self._escaped = end < len(piece)
        return len(piece), True

    def _hold(self, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes > self._longest:
            self._held = []
        elif data:
            self._held.append(data)

    def _item(self, end: bytes) -> Iterator[bytes | None]:
        self._hold(end)
        item = b"".join(self._held).strip() if self._held_bytes <= self._longest else None
        self._held, self._held_bytes = [], 0
        if item != b"":  # nothing between "[" and "]", or behind a last comma
            yield item
