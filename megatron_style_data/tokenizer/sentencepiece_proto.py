"""The pieces inside a sentencepiece ``.model`` file, read and changed without the protobuf library.

The file is a protocol buffer ``ModelProto`` (sentencepiece's ``sentencepiece_model.proto``). Its field 1, repeated, is
a ``SentencePiece`` {1: piece (string), 2: score (float), 3: type (enum)}; field 2 is the ``TrainerSpec``, whose field 3 is
the algorithm (enum). The generated Python code that sentencepiece ships demands a protobuf at least as new as the one it was
made with, which other packages may not allow.
"""

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from megatron_style_data.errors import BadDataError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}

_PIECES_FIELD, _TRAINER_FIELD = 1, 2
_VARINT, _EIGHT_BYTES, _LENGTH_PREFIXED, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its position.

    Attributes:
        text: The piece, with ``▁`` for a space.
        score: Log probability (Unigram) or minus the merge rank (BPE).
        type: One of ``NORMAL`` … ``BYTE``.
    """

    text: str
    score: float
    type: int


def read_pieces(content: bytes, origin: str) -> list[Piece]:
    """The vocabulary of a ``.model`` file.

    Raises:
        BadDataError: ``content`` is not such a file.
    """
    fields = list(_fields_of(content, origin))
    pieces = [_piece(value, origin) for number, _, value, _ in fields if number == _PIECES_FIELD]
    # The trainer's settings come after the pieces: without them the file was cut off between two pieces.
    if not pieces or all(number != _TRAINER_FIELD for number, _, _, _ in fields):
        raise _not_a_model(origin)
    return pieces


def read_algorithm(content: bytes, origin: str) -> str:
    """Which of ``ALGORITHMS`` a ``.model`` file is for.

    Raises:
        BadDataError: ``content`` is not such a file.
    """
    found = 1  # what the file leaves out
    for number, _, value, _ in _fields_of(content, origin):
        if number == _TRAINER_FIELD:
            for setting, wire, code, _ in _fields_of(value, origin):
                if setting == 3 and wire == _VARINT:
                    found = _varint(code, 0, origin)[0]
    if found not in ALGORITHMS:
        raise _not_a_model(origin)
    return ALGORITHMS[found]


def with_control_pieces(content: bytes, ids: Collection[int], origin: str) -> bytes:
    """The file with the pieces ``ids`` made control pieces, which are never found in text; everything else as it was.

    Raises:
        BadDataError: ``content`` is not such a file.
    """
    control = _varint_bytes(3 << 3 | _VARINT) + _varint_bytes(CONTROL)
    return _with_changed_pieces(content, dict.fromkeys(ids, (3, control)), origin)


def with_rounded_scores(content: bytes, step: float, origin: str) -> bytes:
    """The file with the scores of its normal pieces rounded to multiples of ``step``; everything else as it was.

    Raises:
        BadDataError: ``content`` is not such a file.
    """
    tag = _varint_bytes(2 << 3 | _FOUR_BYTES)
    changed = {
        number: (2, tag + struct.pack("<f", round(piece.score / step) * step))
        for number, piece in enumerate(read_pieces(content, origin))
        if piece.type == NORMAL
    }
    return _with_changed_pieces(content, changed, origin)


def _with_changed_pieces(content: bytes, changed: Mapping[int, tuple[int, bytes]], origin: str) -> bytes:
    """The file in which piece ``id`` has the field of this number as these bytes, for each of ``changed``."""
    parts, piece_id = [], 0
    for number, _, value, whole in _fields_of(content, origin):
        if number == _PIECES_FIELD:
            if piece_id in changed:
                field, written = changed[piece_id]
                kept = [bytes_ for other, _, _, bytes_ in _fields_of(value, origin) if other != field]
                body = b"".join((*kept, written))
                whole = _varint_bytes(_PIECES_FIELD << 3 | _LENGTH_PREFIXED) + _varint_bytes(len(body)) + body
            piece_id += 1
        parts.append(whole)
    return b"".join(parts)


def _piece(content: bytes, origin: str) -> Piece:
    text, score, type = "", 0.0, NORMAL
    for number, wire, value, _ in _fields_of(content, origin):
        if number == 1:
            text = value.decode("utf-8", "replace")
        elif number == 2 and wire == _FOUR_BYTES:
            (score,) = struct.unpack("<f", value)
        elif number == 3:
            type = _varint(value, 0, origin)[0]
    return Piece(text, score, type)


def _fields_of(content: bytes, origin: str) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yields (field number, wire type, value, the field's bytes whole) of a message."""
    position = 0
    while position < len(content):
        start = position
        tag, position = _varint(content, position, origin)
        wire, value_at = tag & 7, position
        if wire == _VARINT:
            _, position = _varint(content, position, origin)
        elif wire == _LENGTH_PREFIXED:
            length, value_at = _varint(content, position, origin)
            position = value_at + length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise _not_a_model(origin)
        if position > len(content) or tag >> 3 == 0:
            raise _not_a_model(origin)
        yield tag >> 3, wire, content[value_at:position], content[start:position]


def _varint(content: bytes, position: int, origin: str) -> tuple[int, int]:
    value = shift = 0
    while position < len(content) and shift < 64:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _not_a_model(origin)


def _varint_bytes(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _not_a_model(origin: str) -> BadDataError:
    return BadDataError(f"{origin}: is cut off or not a sentencepiece model; expected a .model file of sentencepiece.")
