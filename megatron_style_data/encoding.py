"""Texts to token ids as they are stored: each document's ids, then the end-of-text token."""

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from megatron_style_data.indexed_dataset import Tokens
from megatron_style_data.tokenizer import Tokenizer

# Stays below the size from which encode_batch starts threads of its own: parallel work is done by processes here.
BATCH_CHARACTERS = 1 << 17


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


def encode_texts(tokenizer: Tokenizer, texts: list[str], dtype: str, seed: int) -> EncodedTexts:
    """Encodes texts as documents of a dataset.

    Args:
        tokenizer: Takes the texts as plain text.
        texts: Normalised texts.
        dtype: Name of the token type; every id fits.
        seed: Keys the hashes.
    """
    ids = tokenizer.encode_batch(texts)
    end_of_text = np.array([tokenizer.end_of_text_id], dtype)
    encoded = [text.encode() for text in texts]
    pieces = [piece for text_ids in ids for piece in (np.array(text_ids, dtype), end_of_text)]
    return EncodedTexts(
        tokens=np.concatenate(pieces) if pieces else np.empty(0, dtype),
        lengths=np.array([len(text_ids) + 1 for text_ids in ids], np.int64),
        utf8_bytes=np.array([len(utf8) for utf8 in encoded], np.int64),
        hashes=np.array([text_hash(utf8, seed) for utf8 in encoded], np.uint64),
    )
