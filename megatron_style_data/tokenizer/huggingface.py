"""Tokenizers in HF's ``tokenizer.json``: those trained here and any existing one."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from megatron_style_data.errors import BadDataError, SettingError, StorageError
from megatron_style_data.tokenizer.fingerprint import fingerprint_of
from megatron_style_data.tokenizer.plain_text_copy import (
    hidden_names,
    plain_text_copy,
    read_definition,
    unreachable_name,
    written_definition,
)
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT_NAMES
from megatron_style_data.tokenizer.transformers_files import CONFIG_FILE, SPECIAL_TOKENS_FILE

# From here on the library's own threads are worth starting. Below it texts are encoded one by one in this thread: a
# process that never started those threads can be forked without a warning.
_THREADS_FROM_CHARACTERS = 1 << 18


class HuggingFaceTokenizer:
    """A ``tokenizer.json`` that encodes corpora: special-token strings in the text are text."""

    kind = "huggingface"

    def __init__(self, content: bytes, end_of_text: str | None, origin: str, likely: Sequence[str] = ()) -> None:
        """Prepares the tokenizer.

        Args:
            content: The bytes of ``tokenizer.json``.
            end_of_text: The token that ends a document; None: the first of ``likely`` and ``END_OF_TEXT_NAMES`` that
                it has.
            origin: The file, for messages.
            likely: Names that are looked for before the usual ones.

        Raises:
            BadDataError: ``content`` is not a tokenizer that the installed ``tokenizers`` can read.
            SettingError: No end-of-text token, or its name in a text cannot be kept apart from it.
        """
        definition = _parse(content, origin)
        self._content, self._origin = content, origin
        try:
            self.end_of_text = _end_of_text(definition, end_of_text, likely, origin)
            hidden = {self.end_of_text: None} | dict.fromkeys(hidden_names(definition))
            self._plain = _build(plain_text_copy(definition, hidden), origin)
        except (AttributeError, BadDataError, KeyError, TypeError, ValueError):
            _build(definition, origin)  # says what is wrong with the file itself
            raise
        self.fingerprint = fingerprint_of(content)
        # Ids are the same in the copy. The library's, not the file's: where they differ, transformers uses the library's.
        added = self._plain.get_added_tokens_decoder()
        self.vocab_size = 1 + max([_highest_model_id(definition), *added])
        ids = {name: self._plain.token_to_id(unreachable_name(name)) for name in hidden}
        self.special_tokens = {name: number for name, number in ids.items() if number is not None}
        self.end_of_text_id = self.special_tokens[self.end_of_text]
        if self.end_of_text_id in self.encode_batch([self.end_of_text])[0]:
            raise SettingError(
                f"{origin}: the text {self.end_of_text!r} in a document would be read as the end of the document; "
                f"use a tokenizer whose end-of-text token is not part of its text vocabulary."
            )

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, taken as plain text (see ``protocol.Tokenizer``)."""
        if sum(map(len, texts)) < _THREADS_FROM_CHARACTERS:
            return [self._plain.encode(text, add_special_tokens=False).ids for text in texts]
        return [encoding.ids for encoding in self._plain.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _whole(self) -> tokenizers.Tokenizer:
        """The tokenizer as its file has it, for reading ids; encoding does without."""
        return _build(_parse(self._content, self._origin), self._origin)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` (see ``protocol.Tokenizer``)."""
        return str(self._whole.decode(list(ids), skip_special_tokens=False))

    def piece(self, number: int) -> str:
        """The entry of the vocabulary with this id, as the file has it."""
        return str(self._whole.id_to_token(number))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._content, self.end_of_text, self._origin))


def load_huggingface(path: Path, end_of_text: str | None = None) -> HuggingFaceTokenizer:
    """Reads a ``tokenizer.json``.

    Args:
        path: The file.
        end_of_text: The token that ends a document; None: what the folder's ``tokenizer_config.json`` or
            ``special_tokens_map.json`` says, else the first of ``END_OF_TEXT_NAMES`` that it has.

    Raises:
        BadDataError: Not a tokenizer file.
        SettingError: No end-of-text token can be found, or the one asked for does not exist.
        StorageError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    beside = () if end_of_text is not None else (CONFIG_FILE, SPECIAL_TOKENS_FILE)
    named = [_end_of_text_in(path.parent / name) for name in beside]
    return HuggingFaceTokenizer(content, end_of_text, str(path), [name for name in named if name is not None])


def _parse(content: bytes, origin: str) -> dict[str, Any]:
    try:
        definition = read_definition(content)
    except ValueError as error:
        raise BadDataError(f"{origin}: is not JSON ({error}); expected a tokenizer.json of HF tokenizers.") from error
    model = definition.get("model") if isinstance(definition, dict) else None
    if not isinstance(model, dict) or not model.get("vocab"):
        raise BadDataError(f"{origin}: has no model with a vocabulary; expected a tokenizer.json of HF tokenizers.")
    return dict(definition)


def _build(definition: dict[str, Any], origin: str) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(written_definition(definition))
    except Exception as error:  # the Rust library raises bare Exception, no subclass
        raise BadDataError(f"{origin}: tokenizers {tokenizers.__version__} cannot read it: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _end_of_text(definition: dict[str, Any], asked: str | None, likely: Sequence[str], origin: str) -> str:
    added = [token["content"] for token in definition.get("added_tokens") or []]
    vocabulary = definition["model"]["vocab"]
    # Unigram: [[piece, score], ...]
    pieces = vocabulary if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
    for name in (*likely, *END_OF_TEXT_NAMES) if asked is None else (asked,):
        if name in added or name in pieces:
            return name
    _build(definition, origin)  # a file that is no tokenizer lacks more than that
    if asked is not None:
        raise SettingError(f"{origin}: has no token {asked!r}; name one of its tokens as the end of text.")
    raise SettingError(
        f"{origin}: no end-of-text token found (looked for eos_token in {CONFIG_FILE}, then "
        f"{', '.join(END_OF_TEXT_NAMES)}); its added tokens are: {', '.join(map(repr, added[:8])) or 'none'}; "
        f"name the one that ends a document."
    )


def _highest_model_id(definition: dict[str, Any]) -> int:
    vocabulary = definition["model"]["vocab"]
    return max(vocabulary.values()) if isinstance(vocabulary, dict) else len(vocabulary) - 1


def _end_of_text_in(path: Path) -> str | None:
    """``eos_token`` of a JSON file that may not be there; it is a string, or an object with ``content``."""
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadDataError(f"{path}: is not JSON ({error}); repair or remove it.") from error
    token = settings.get("eos_token") if isinstance(settings, dict) else None
    return token.get("content") if isinstance(token, dict) else token
