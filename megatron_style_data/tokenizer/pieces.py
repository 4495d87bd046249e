"""Shows single tokens to people: the text they stand for, or their bytes where that is not whole characters."""

import re

from megatron_style_data.tokenizer.protocol import Tokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def readable_token(tokenizer: Tokenizer, number: int) -> str:
    """One token as people read it: ``'村民'``, ``'\\n'``, ``bytes e6 9d`` or the name of a special token."""
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
        return "bytes " + " ".join(f"{byte_of[character]:02x}" for character in piece)
    return repr(piece)


def byte_level_alphabet() -> dict[int, str]:
    """Byte to the printable character that stands for it in a byte-level vocabulary (GPT-2's table).

    Printable ASCII and Latin-1 stand for themselves; the other 68 bytes take the characters from U+0100 on.
    """
    themselves = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(0x100) if byte not in themselves)
    return {byte: chr(byte) for byte in themselves} | {byte: chr(0x100 + i) for i, byte in enumerate(others)}
