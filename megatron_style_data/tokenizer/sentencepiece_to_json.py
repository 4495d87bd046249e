"""Writes a sentencepiece BPE model as HF's ``tokenizer.json``: transformers then loads it without sentencepiece."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_text
from megatron_style_data.tokenizer.sentencepiece_proto import CONTROL, NORMAL, Piece, read_pieces
from megatron_style_data.tokenizer.transformers_files import DEFINITION_FILE, write_tokenizer_config

_SPACE = "▁"


def write_transformers_files(content: bytes, folder: Path) -> None:
    """Writes ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json`` for a model trained here.

    Args:
        content: The bytes of the ``.model`` file.
        folder: Where to write.
    """
    definition = definition_of(read_pieces(content, "the new model"))
    atomic_write_text(folder / DEFINITION_FILE, json.dumps(definition, ensure_ascii=False, indent=2) + "\n")
    write_tokenizer_config(folder, trained_as="sentencepiece")


def definition_of(pieces: Sequence[Piece]) -> dict[str, Any]:
    """A ``tokenizer.json`` with the ids and the merges of a sentencepiece BPE vocabulary with byte fallback.

    sentencepiece merges the neighbours whose joined piece has the best score; HF's BPE merges the pair of lowest rank.
    So every way to cut a piece into two pieces is a merge, ranked by the score of the whole.
    """
    vocabulary = {piece.text: number for number, piece in enumerate(pieces)}
    special = [(number, piece.text) for number, piece in enumerate(pieces) if piece.type == CONTROL]
    joinable = {piece.text: piece.score for piece in pieces if piece.type == NORMAL}
    merges = [
        (-score, text[:cut], text[cut:])
        for text, score in joinable.items()
        for cut in range(1, len(text))
        if text[:cut] in joinable and text[cut:] in joinable
    ]
    merges.sort(key=lambda merge: (merge[0], vocabulary[merge[1]], vocabulary[merge[2]]))
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
        "model": {
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
        },
    }


def _added(number: int, text: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": text, **flags}
