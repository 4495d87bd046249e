"""What the rest of the package asks of a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to ids and back; the same interface for every kind of tokenizer file."""

    @property
    def kind(self) -> str:
        """``"huggingface"`` (``tokenizer.json``) or ``"sentencepiece"`` (``.model``)."""
        ...

    @property
    def vocab_size(self) -> int:
        """Highest id + 1, special tokens included."""
        ...

    @property
    def end_of_text_id(self) -> int:
        """The id that ends every document."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer file, as 64 hexadecimal digits."""
        ...

    @property
    def end_of_text(self) -> str:
        """The name of the token that ends every document."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Name to id of the special tokens. Of these ids only that of an unknown token comes out of ``encode_batch``."""
        ...

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, taken as plain text.

        Strings that look like special tokens are ordinary text; no special token is added and no end of text appended.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; special tokens appear as their names, broken UTF-8 as U+FFFD."""
        ...

    def piece(self, number: int) -> str:
        """The entry of the vocabulary with this id, as the file has it (for showing)."""
        ...
