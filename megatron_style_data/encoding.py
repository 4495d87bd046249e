"""Texts to token ids as they are stored: each document's ids, then the end-of-text token."""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from megatron_style_data.indexed_dataset import Tokens
from megatron_style_data.readers.text_batches import TextBatch
from megatron_style_data.tokenizer.fast_encoding import Encoder, FlatIds


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """The ids of some documents, one after the other.

    Attributes:
        tokens: (tokens,) ids, end-of-text tokens included.
        lengths: (documents,) int64, tokens of each document, its end-of-text token included.
        utf8_bytes: (documents,) int64, bytes of each text.
        hashes: (documents,) uint64, the number that decides a text's split: xxh3-64 of its UTF-8, keyed by the seed.
    """

    tokens: Tokens
    lengths: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]
    hashes: NDArray[np.uint64]


def encode_texts(encoder: Encoder, batch: TextBatch, end_of_text_id: int, dtype: str, seed: int) -> EncodedTexts:
    """Encodes texts as documents of a dataset.

    Args:
        encoder: Takes the texts as plain text.
        batch: Normalised texts.
        end_of_text_id: Ends every document.
        dtype: Name of the token type; every id fits.
        seed: Keys the hashes.
    """
    flat = encoder.encode_flat(batch.texts)
    utf8, key = batch.utf8, seed & (1 << 64) - 1
    return EncodedTexts(
        tokens=_with_ends(flat, end_of_text_id, dtype),
        lengths=flat.lengths + 1,
        utf8_bytes=np.fromiter(map(len, utf8), np.int64, len(utf8)),
        hashes=np.fromiter((xxhash.xxh3_64_intdigest(text, key) for text in utf8), np.uint64, len(utf8)),
    )


def _with_ends(flat: FlatIds, end_of_text_id: int, dtype: str) -> Tokens:
    """The ids as they are stored, with ``end_of_text_id`` after those of each text."""
    texts = len(flat.lengths)
    tokens = np.empty(len(flat.ids) + texts, dtype)
    inside = np.ones(len(tokens), np.bool_)
    ends = np.cumsum(flat.lengths + 1) - 1
    inside[ends] = False
    tokens[inside] = flat.ids
    tokens[ends] = end_of_text_id
    return tokens
