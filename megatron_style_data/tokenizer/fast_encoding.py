"""The fast encoder: fastokens where it gives exactly the ids of HF's tokenizers, which is proved before it is used.

Corpora are plain text to it as to the tokenizer (``plain_text_copy.py``): no string in a text becomes a special token.
"""

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import fastokens
import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.encoding_probes import encoding_probes
from megatron_style_data.tokenizer.plain_text_copy import hidden_names, plain_text_copy
from megatron_style_data.tokenizer.protocol import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class FlatIds:
    """The ids of some texts, one text after the other.

    Attributes:
        ids: (tokens,) uint32.
        lengths: (texts,) int64, ids of each text.
    """

    ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]


class Encoder(Protocol):
    """Text to ids in arrays."""

    def encode_flat(self, texts: list[str]) -> FlatIds:
        """Ids of each text, taken as plain text, without end of text."""
        ...


class FastEncoder:
    """fastokens on a plain-text copy of a ``tokenizer.json``.

    It works in as many threads as ``RAYON_NUM_THREADS`` says. Its cache is bounded (about 30 MB).
    """

    def __init__(self, definition: Path | str) -> None:
        """Prepares the encoder.

        Args:
            definition: What ``plain_definition`` gives, or a file with it.

        Raises:
            ValueError: fastokens does not know this kind of tokenizer.
        """
        if isinstance(definition, Path):
            self._tokenizer = fastokens.Tokenizer.from_file(str(definition))
        else:
            self._tokenizer = fastokens.Tokenizer.from_json_str(definition)

    def encode_flat(self, texts: list[str]) -> FlatIds:
        """Ids of each text, views of the bytes that fastokens made."""
        ids, bounds = self._tokenizer.encode_batch_flat(texts)
        ends = np.frombuffer(bounds, "<u8").astype(np.int64)
        return FlatIds(np.frombuffer(ids, "<u4"), ends[1:] - ends[:-1])

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text (as in ``protocol.Tokenizer``)."""
        flat = self.encode_flat(texts)
        return [part.tolist() for part in np.split(flat.ids, np.cumsum(flat.lengths)[:-1])] if texts else []


@dataclass(frozen=True, slots=True)
class OwnEncoder:
    """The tokenizer itself, for those that fastokens does not read."""

    tokenizer: Tokenizer

    def encode_flat(self, texts: list[str]) -> FlatIds:
        """Ids of each text."""
        ids = self.tokenizer.encode_batch(texts)
        lengths = np.array([len(one) for one in ids], np.int64)
        return FlatIds(np.fromiter(chain.from_iterable(ids), np.uint32, int(lengths.sum())), lengths)


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Which encoder a corpus gets.

    Attributes:
        definition: What ``FastEncoder`` takes; None: the tokenizer encodes itself.
        words: The choice and its reason, for people.
    """

    definition: str | None
    words: str


def choose_encoder(tokenizer: Tokenizer, content: bytes, sample: Sequence[str]) -> EncoderChoice:
    """Compares both encoders on ``sample`` and on ``encoding_probes``; the fast one is chosen if every id is the same.

    Args:
        tokenizer: The tokenizer.
        content: The bytes of its file.
        sample: Texts of the corpus, normalised.
    """
    if tokenizer.kind != "huggingface":
        return EncoderChoice(None, f"{tokenizer.kind}, as fastokens reads tokenizer.json only")
    definition = plain_definition(content, tokenizer.end_of_text)
    try:
        fast = FastEncoder(definition)
    except ValueError as error:
        return EncoderChoice(None, f"tokenizers, as fastokens does not read this tokenizer ({error})")
    texts = [*encoding_probes(list(tokenizer.special_tokens)), *sample]
    different = first_difference(tokenizer, fast, texts)
    if different is not None:
        return EncoderChoice(None, f"tokenizers, as fastokens gives other ids for {texts[different][:40]!r}")
    version = importlib.metadata.version("fastokens")
    return EncoderChoice(definition, f"fastokens {version}, the same ids as tokenizers on {len(texts)} texts at start")


def first_difference(tokenizer: Tokenizer, fast: FastEncoder, texts: Sequence[str]) -> int | None:
    """The first of ``texts`` for which ``fast`` gives other ids than ``tokenizer``; None if there is none."""
    for number, text in enumerate(texts):
        if fast.encode_batch([text]) != tokenizer.encode_batch([text]):
            return number
    return None


def plain_definition(content: bytes, end_of_text: str) -> str:
    """The ``tokenizer.json`` with which special tokens are ordinary text, and every other id stays as it is.

    Args:
        content: The bytes of a ``tokenizer.json``.
        end_of_text: The token that ends documents.
    """
    definition = json.loads(content)
    return json.dumps(plain_text_copy(definition, {end_of_text, *hidden_names(definition)}), ensure_ascii=False)
