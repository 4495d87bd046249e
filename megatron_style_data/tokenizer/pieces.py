"""Shows single tokens to people: the text they stand for, or their bytes where that is not whole characters."""

import re

from megatron_style_data.tokenizer.protocol import Tokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def readable_token(tokenizer: Tokenizer, number: int) -> str:
    """One token as people read it: its whole characters as text, pieces of characters as bytes, special tokens by name.

    ``'村民'``, ``'\\n'``, ``bytes e6 9d`` (the beginning of a character), ``'的' bytes e4``, ``<|endoftext|>``.
    """
    piece = tokenizer.piece(number)
    if piece in tokenizer.special_tokens:
        return piece
    text = tokenizer.decode([number])
    if text and "\ufffd" not in text:
        return repr(text)
    spelt = _BYTE_PIECE.fullmatch(piece)
    if spelt:
        return f"bytes {spelt[1].lower()}"
    byte_of = {character: byte for byte, character in byte_level_alphabet().items()}
    if all(character in byte_of for character in piece):
        return _readable_bytes(bytes(byte_of[character] for character in piece))
    return repr(piece)


def _readable_bytes(content: bytes) -> str:
    """Text and bytes in turn, as they come."""
    parts: list[tuple[bool, str]] = []
    for character in content.decode("utf-8", "surrogateescape"):
        cut = "\udc80" <= character <= "\udcff"
        shown = f"{ord(character) - 0xDC00:02x}" if cut else character
        if parts and parts[-1][0] == cut:
            parts[-1] = (cut, parts[-1][1] + (" " if cut else "") + shown)
        else:
            parts.append((cut, shown))
    return " ".join(f"bytes {shown}" if cut else repr(shown) for cut, shown in parts)


def byte_level_alphabet() -> dict[int, str]:
    """Byte to the printable character that stands for it in a byte-level vocabulary (GPT-2's table).

    Printable ASCII and Latin-1 stand for themselves; the other 68 bytes take the characters from U+0100 on.
    """
    themselves = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(0x100) if byte not in themselves)
    return {byte: chr(byte) for byte in themselves} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
