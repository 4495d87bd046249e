"""Reads text files, plain or compressed: one document a file, or one a block between blank lines."""

from collections.abc import Iterator

from megatron_style_data.readers.bad_documents import BadDocuments
from megatron_style_data.readers.byte_stream import byte_lines, byte_pieces
from megatron_style_data.readers.records import RawDocument

# A longer line is not worth decoding to see whether it is blank: no one writes that many full-width spaces.
_LONGEST_BLANK_LINE_BYTES = 256


def read_text(bad: BadDocuments) -> Iterator[RawDocument]:
    """Yields (number of the first line, text) of each document, as ``options.text_documents`` cuts them.

    Raises:
        BadDataError: A bad document is refused, or the file is cut off or damaged.
    """
    if bad.options.text_documents == "file":
        return _whole_file(bad)
    return read_blocks(bad)


def _whole_file(bad: BadDocuments) -> Iterator[RawDocument]:
    longest = bad.options.max_document_bytes
    pieces, size = [], 0
    for piece in byte_pieces(bad.file.path):
        size += len(piece)
        if size > longest:
            bad.take("too_long", "line 1", f"a file of more than {longest} bytes as one document")
            return
        pieces.append(piece)
    text = bad.decode(b"".join(pieces), "line 1", first_line=1)
    if text is not None:
        yield RawDocument(1, text, {})


def read_blocks(bad: BadDocuments) -> Iterator[RawDocument]:
    """Yields (number of the first line, text) of each block between blank lines; raises what ``read_text`` raises."""
    longest = bad.options.max_document_bytes
    block: list[bytes] = []
    first, size = 1, 0
    for number, line in byte_lines(bad.file.path, longest):
        if line is not None and _is_blank(line, bad.encoding):
            yield from _one_block(bad, first, block, size)
            block, first, size = [], number + 1, 0
            continue
        size += (longest + 1 if line is None else len(line)) + 1
        if size > longest + 1:
            block = []  # counted as too long at its end
        elif line is not None:
            block.append(line)
    yield from _one_block(bad, first, block, size)


def _one_block(bad: BadDocuments, first: int, block: list[bytes], size: int) -> Iterator[RawDocument]:
    longest = bad.options.max_document_bytes
    if size > longest + 1:
        bad.take("too_long", f"line {first}", f"a document of more than {longest} bytes")
    elif block:
        text = bad.decode(b"\n".join(block), f"line {first}", first_line=first)
        if text is not None:
            yield RawDocument(first, text, {})


def _is_blank(line: bytes, encoding: str) -> bool:
    if not line.strip():
        return True
    # U+3000 and other wide spaces: invalid bytes are not blank, and are left for the block's own check.
    return len(line) <= _LONGEST_BLANK_LINE_BYTES and not line.decode(encoding, "replace").strip()
