"""The fast encoder: fastokens where it gives exactly the ids of HF's tokenizers, which is proved before it is used.

Corpora are plain text to it as to the tokenizer (``plain_text_copy.py``): no string in a text becomes a special token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import fastokens
import numpy as np
from numpy.typing import NDArray

from megatron_style_data.tokenizer.encoding_probes import encoding_probes
from megatron_style_data.tokenizer.plain_text_copy import (
    hidden_names,
    plain_text_copy,
    read_definition,
    written_definition,
)
from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.split_pattern import QWEN2_SPELLING, SPLIT_PATTERN


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

    It works in as many threads as ``FASTOKENS_BPE_THREADS`` says (there are cores). Its caches are bounded, some 50 MB.
    """

    def __init__(self, definition: str) -> None:
        """Prepares the encoder.

        Args:
            definition: What ``plain_definition`` gives.

        Raises:
            ValueError: fastokens does not know this kind of tokenizer.
        """
        self._tokenizer = fastokens.Tokenizer.from_json_str(definition)

    def encode_flat(self, texts: list[str]) -> FlatIds:
        """Ids of each text, views of the bytes that fastokens made."""
        ids, bounds = self._tokenizer.encode_batch_flat(texts)
        ends = np.frombuffer(bounds, "<u8").astype(np.int64)
        return FlatIds(np.frombuffer(ids, "<u4"), ends[1:] - ends[:-1])


@dataclass(frozen=True, slots=True)
class OwnEncoder:
    """The tokenizer itself, for those that fastokens does not read."""

    tokenizer: Tokenizer

    def encode_flat(self, texts: list[str]) -> FlatIds:
        """Ids of each text."""
        ids = self.tokenizer.encode_batch(texts)
        lengths = np.array([len(one) for one in ids], np.int64)
        return FlatIds(np.fromiter(chain.from_iterable(ids), np.uint32, int(lengths.sum())), lengths)


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """Texts and the ids that the tokenizer gives them; an encoder that stands in for it must give the same.

    Attributes:
        texts: `encoding_probes`, then texts of the corpus.
        expected: Their ids.
    """

    texts: list[str]
    expected: FlatIds

    @classmethod
    def of(cls, tokenizer: Tokenizer, sample: Sequence[str]) -> "Proof":
        """Has the tokenizer encode the probes and ``sample``, texts of a corpus as they are normalised."""
        texts = [*encoding_probes(list(tokenizer.special_tokens)), *sample]
        return cls(texts, OwnEncoder(tokenizer).encode_flat(texts))

    def first_difference(self, encoder: Encoder) -> str | None:
        """The first text to which ``encoder`` gives other ids; None if there is none."""
        found = encoder.encode_flat(self.texts)
        starts = np.cumsum(self.expected.lengths) - self.expected.lengths
        lengths, others = self.expected.lengths.tolist(), found.lengths.tolist()
        for text, start, length, other in zip(self.texts, starts.tolist(), lengths, others, strict=True):
            here = slice(start, start + length)  # in both, as all texts before have the same ids
            if length != other or not np.array_equal(found.ids[here], self.expected.ids[here]):
                return text
        return None


def plain_definition(content: bytes, end_of_text: str) -> str:
    """What ``FastEncoder`` takes: a ``tokenizer.json`` in which special tokens are ordinary text, with every id as it is.

    Args:
        content: The bytes of a ``tokenizer.json``.
        end_of_text: The token that ends documents.
    """
    definition = read_definition(content)
    plain = plain_text_copy(definition, {end_of_text, *hidden_names(definition)})
    plain["model"] = _with_merges_as_strings(plain["model"])
    plain["pre_tokenizer"] = _with_known_spelling(plain.get("pre_tokenizer"))
    return written_definition(plain)


def _with_merges_as_strings(model: dict[str, Any]) -> dict[str, Any]:
    """``"a b"`` for each merge ``["a", "b"]``, as older files have it, which is read faster; where no piece has a space."""
    merges = model.get("merges")
    if not merges or isinstance(merges[0], str):
        return model
    strings = list(map(" ".join, merges))
    return {**model, "merges": strings} if all(string.count(" ") == 1 for string in strings) else model


def _with_known_spelling(step: Any) -> Any:
    """A pre-tokenizer that spells our pattern as Qwen2 does: fastokens scans for that one without a regex engine."""
    if not isinstance(step, dict):
        return step
    if step.get("pattern") == {"Regex": SPLIT_PATTERN}:
        return {**step, "pattern": {"Regex": QWEN2_SPELLING}}
    steps = step.get("pretokenizers")
    return {**step, "pretokenizers": list(map(_with_known_spelling, steps))} if isinstance(steps, list) else step
