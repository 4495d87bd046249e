"""Texts to token ids as they are stored: each document's ids, then the end-of-text token."""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from megatron_style_data.indexed_dataset import Tokens
from megatron_style_data.tokenizer.fast_encoding import Encoder


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """The ids of some documents, one after the other.

    Attributes:
        tokens: (tokens,) ids, end-of-text tokens included.
        lengths: (documents,) int64, tokens of each document, its end-of-text token included.
        utf8_bytes: (documents,) int64, bytes of each text.
        hashes: (documents,) uint64, `text_hash` of each text.
    """

    tokens: Tokens
    lengths: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]
    hashes: NDArray[np.uint64]


def text_hash(utf8: bytes, seed: int) -> int:
    """The 64-bit number that decides a text's split: xxh3-64 of its UTF-8 bytes, keyed by the seed."""
    return int(xxhash.xxh3_64_intdigest(utf8, seed=seed & (1 << 64) - 1))


def encode_texts(encoder: Encoder, texts: list[str], end_of_text_id: int, dtype: str, seed: int) -> EncodedTexts:
    """Encodes texts as documents of a dataset.

    Args:
        encoder: Takes the texts as plain text.
        texts: Normalised texts.
        end_of_text_id: Ends every document.
        dtype: Name of the token type; every id fits.
        seed: Keys the hashes.
    """
    flat = encoder.encode_flat(texts)
    tokens = np.full(len(flat.ids) + len(texts), end_of_text_id, dtype)
    start = 0
    for number, length in enumerate(flat.lengths.tolist()):
        end = start + length
        tokens[start + number : end + number] = flat.ids[start:end]
        start = end
    encoded = [text.encode() for text in texts]
    return EncodedTexts(
        tokens=tokens,
        lengths=flat.lengths + 1,
        utf8_bytes=np.array([len(utf8) for utf8 in encoded], np.int64),
        hashes=np.array([text_hash(utf8, seed) for utf8 in encoded], np.uint64),
    )
