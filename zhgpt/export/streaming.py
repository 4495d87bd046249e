"""Prints a text while it is generated, whole characters only."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

REPLACEMENT = "\ufffd"


class CharacterStreamer:
    """What ``generate(streamer=...)`` of transformers calls with the prompt's ids and then each new one.

    A byte-level token may end inside a character: the decoder shows the torn bytes as U+FFFD. Those at the end are held
    back until the character is complete, or until the text ends.
    """

    def __init__(self, tokenizer: Any, write: Callable[[str], None]) -> None:
        """Prepare a stream.

        Args:
            tokenizer: a transformers tokenizer.
            write: takes each new piece of text.
        """
        self.text = ""
        """All that was written."""
        self._tokenizer, self._write = tokenizer, write
        self._ids: list[int] = []

    def put(self, value: Tensor) -> None:
        """Take ids, (1, S) or (1,), and write the characters that they complete."""
        self._ids.extend(value.flatten().tolist())
        self._advance(self._decoded().rstrip(REPLACEMENT))

    def end(self) -> None:
        """Write what is left."""
        self._advance(self._decoded())

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True))

    def _advance(self, text: str) -> None:
        if len(text) > len(self.text):
            self._write(text[len(self.text) :])
            self.text = text
