"""Writes a sentencepiece model as HF's ``tokenizer.json``: transformers then loads it without sentencepiece."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_text
from megatron_style_data.tokenizer.sentencepiece_proto import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    Piece,
    read_algorithm,
    read_pieces,
)
from megatron_style_data.tokenizer.transformers_files import DEFINITION_FILE, write_tokenizer_config

# Of unigram models trained here. The best way to cut a text is the one whose scores have the highest sum. sentencepiece
# adds in 32 bits, HF in 64; with multiples of 1/16 both are exact down to -2**20, some 300,000 characters, and so agree.
SCORE_STEP = 1 / 16

_SPACE = "▁"
# Far below what the characters of "<0x0A>" cost, so that a text that spells a byte's piece is not cut into it; a power of
# two, with which sums stay exact.
_NEVER = -(2.0**20)


def write_transformers_files(content: bytes, folder: Path) -> None:
    """Writes ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json`` for a model trained here.

    Args:
        content: The bytes of the ``.model`` file.
        folder: Where to write.
    """
    definition = definition_of(content, "the new model")
    assert not isinstance(definition, str)
    atomic_write_text(folder / DEFINITION_FILE, json.dumps(definition, ensure_ascii=False, indent=2) + "\n")
    write_tokenizer_config(folder, trained_as="sentencepiece")


def definition_of(content: bytes, origin: str) -> dict[str, Any] | str:
    """A ``tokenizer.json`` with the ids of a sentencepiece model with byte fallback and no normaliser, or why there is none.

    Raises:
        BadDataError: ``content`` is not a ``.model`` file.
    """
    pieces, algorithm = read_pieces(content, origin), read_algorithm(content, origin)
    if algorithm not in ("bpe", "unigram"):
        return f"its algorithm is {algorithm}, not BPE or unigram"
    if algorithm == "unigram" and any(p.type == NORMAL and p.score % SCORE_STEP for p in pieces):
        return (
            "it is a unigram model whose scores are not multiples of 1/16 as in those trained here, so that sums in 32 bits, "
            "which sentencepiece makes, and in 64, which transformers makes, now and then prefer other pieces"
        )
    special = [(number, piece.text) for number, piece in enumerate(pieces) if piece.type == CONTROL]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, text) for number, text in special],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": _bpe_model(pieces) if algorithm == "bpe" else _unigram_model(pieces),
    }


def _bpe_model(pieces: Sequence[Piece]) -> dict[str, Any]:
    """sentencepiece merges the neighbours whose joined piece has the best score; HF's BPE merges the pair of lowest rank.

    So every way to cut a piece into two pieces is a merge, ranked by the score of the whole.
    """
    vocabulary = {piece.text: number for number, piece in enumerate(pieces)}
    joinable = {piece.text: piece.score for piece in pieces if piece.type == NORMAL}
    merges = [
        (-score, text[:cut], text[cut:])
        for text, score in joinable.items()
        for cut in range(1, len(text))
        if text[:cut] in joinable and text[cut:] in joinable
    ]
    merges.sort(key=lambda merge: (merge[0], vocabulary[merge[1]], vocabulary[merge[2]]))
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": [[left, right] for _, left, right in merges],
    }


def _unigram_model(pieces: Sequence[Piece]) -> dict[str, Any]:
    """The same scores; what sentencepiece never finds in a text has one that is never the best.

    HF gives a character that is no piece the lowest of all scores and a bit less. That changes nothing where each character
    of each piece is a piece itself, as sentencepiece's training sees to: there is no other way past such a character.
    """
    return {
        "type": "Unigram",
        "unk_id": next(number for number, piece in enumerate(pieces) if piece.type == UNKNOWN),
        "vocab": [[piece.text, piece.score if piece.type == NORMAL else _NEVER] for piece in pieces],
        "byte_fallback": True,
    }


def _added(number: int, text: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": text, **flags}
