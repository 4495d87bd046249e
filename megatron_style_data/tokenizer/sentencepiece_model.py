"""Tokenizers in sentencepiece's ``.model`` file: those trained here and any existing one."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import sentencepiece

from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.tokenizer.fingerprint import fingerprint_of
from megatron_style_data.tokenizer.sentencepiece_proto import (
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    read_pieces,
    with_control_pieces,
)
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT_NAMES


class SentencePieceTokenizer:
    """A sentencepiece ``.model`` that encodes corpora: special-token strings in the text are text.

    Control pieces are never found in text; user-defined ones are, so encoding works on a copy of the model in which
    those that are not plainly text are control pieces. Ids stay as they are.
    """

    kind = "sentencepiece"

    def __init__(self, content: bytes, end_of_text: str | None, origin: str) -> None:
        """Prepares the tokenizer.

        Args:
            content: The bytes of the ``.model`` file.
            end_of_text: The piece that ends a document; None: the model's own, else a usual name.
            origin: The file, for messages.

        Raises:
            BadDataError: Not a model that the installed sentencepiece can read.
            SettingError: No end-of-text piece.
        """
        self._content, self._origin = content, origin
        self._whole = _processor(content, origin)
        pieces = read_pieces(content, origin)
        self.fingerprint = fingerprint_of(content)
        self.vocab_size = len(pieces)
        self.end_of_text_id = _end_of_text_id(self._whole, pieces, end_of_text, origin)
        self.end_of_text = pieces[self.end_of_text_id].text
        hidden = {number for number, piece in enumerate(pieces) if piece.type == USER_DEFINED and not _is_text(piece)}
        hidden.add(self.end_of_text_id)
        self._named = {number: pieces[number].text for number in hidden}
        self._named.update({number: piece.text for number, piece in enumerate(pieces) if piece.type == CONTROL})
        self.special_tokens = {text: number for number, text in sorted(self._named.items())}
        self._plain = _processor(with_control_pieces(content, hidden, origin), origin)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, taken as plain text (see ``protocol.Tokenizer``)."""
        return [self._plain.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` (see ``protocol.Tokenizer``)."""
        parts = []
        for special, group in groupby(map(int, ids), key=self._named.__contains__):
            run = list(group)
            parts.append("".join(self._named[number] for number in run) if special else self._whole.decode(run))
        return "".join(parts)

    def piece(self, number: int) -> str:
        """The entry of the vocabulary with this id, as the file has it."""
        return str(self._whole.id_to_piece(number))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._content, self.end_of_text, self._origin))


def load_sentencepiece(path: Path, end_of_text: str | None = None) -> SentencePieceTokenizer:
    """Reads a sentencepiece ``.model``.

    Raises:
        BadDataError: Not a sentencepiece model.
        SettingError: No end-of-text piece can be found, or the one asked for does not exist.
        StorageError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return SentencePieceTokenizer(content, end_of_text, str(path))


def _processor(content: bytes, origin: str) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise BadDataError(
            f"{origin}: sentencepiece cannot read it; expected a .model file of sentencepiece."
        ) from error


def _end_of_text_id(
    processor: sentencepiece.SentencePieceProcessor, pieces: Sequence[Piece], asked: str | None, origin: str
) -> int:
    by_text = {piece.text: number for number, piece in enumerate(pieces) if piece.type != UNKNOWN}
    if asked is None and processor.eos_id() >= 0:
        return int(processor.eos_id())
    for name in END_OF_TEXT_NAMES if asked is None else (asked,):
        if name in by_text:
            return by_text[name]
    control = ", ".join(repr(piece.text) for piece in pieces if piece.type in (CONTROL, USER_DEFINED)) or "none"
    wanted = "end-of-text piece" if asked is None else f"piece {asked!r}"
    raise SettingError(
        f"{origin}: has no {wanted}; its special pieces are: {control}; name the one that ends a document."
    )


def _is_text(piece: Piece) -> bool:
    # Line ends, runs of spaces and single characters are often user-defined; nothing can be forged with them.
    text = piece.text.replace("▁", " ")
    return text.isspace() or len(text) == 1
