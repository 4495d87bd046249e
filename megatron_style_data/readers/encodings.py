"""Which encoding Chinese text is in: UTF-8, or GB18030 as older files are."""

import codecs
from pathlib import Path

from megatron_style_data.errors import UserError
from megatron_style_data.readers.byte_stream import byte_pieces
from megatron_style_data.readers.options import Encoding

_JUDGED_BYTES = 1 << 18
# In GB18030 text nine of ten characters are of the 3,755 common ones or punctuation. UTF-8 taken for GB18030 gives about
# one in five, Latin-1 and binary data less.
_COMMON_SHARE = 0.7


def encoding_of(path: Path, asked: Encoding) -> str:
    """The encoding of a file: what was asked for; with ``auto`` what its first 256 KiB read as, UTF-8 where neither fits."""
    if asked != "auto":
        return asked
    try:
        start = _beginning(path)
    except UserError:  # the reader will say what is wrong with the file
        return "utf-8"
    if _is_utf8(start):
        return "utf-8"
    return "gb18030" if reads_as_gb18030(start) else "utf-8"


def reads_as_gb18030(content: bytes) -> bool:
    """Whether ``content``, which is not UTF-8, is Chinese in GB18030. The last character may be cut off."""
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(content[:_JUDGED_BYTES])
    except UnicodeDecodeError:
        return False
    beyond_ascii = [character for character in text if character > "\x7f"]
    common = sum(map(_is_common, beyond_ascii))
    return bool(beyond_ascii) and common >= _COMMON_SHARE * len(beyond_ascii)


def _is_common(character: str) -> bool:
    """Punctuation, full-width forms (rows 1 and 3 of GB 2312) or a character of level 1 (rows 16 to 55)."""
    code = character.encode("gb18030", "replace")
    return len(code) == 2 and (code[0] in (0xA1, 0xA3) or 0xB0 <= code[0] <= 0xD7) and code[1] >= 0xA1


def _is_utf8(content: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def _beginning(path: Path) -> bytes:
    held: list[bytes] = []
    size = 0
    for piece in byte_pieces(path):
        held.append(piece)
        size += len(piece)
        if size >= _JUDGED_BYTES:
            break
    return b"".join(held)[:_JUDGED_BYTES]
