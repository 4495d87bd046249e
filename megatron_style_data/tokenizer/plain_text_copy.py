"""A copy of a ``tokenizer.json`` that reads special-token strings as ordinary text and keeps every other id.

HF tokenizers look for added tokens in raw text, so a literal ``<|endoftext|>`` in a corpus would become the id that
ends documents. ``Tokenizer.encode_special_tokens`` switches that off only for tokens marked special; chat and tool
tokens are often added without the mark. The copy has no added tokens at all, except those that are plainly text.
"""

import hashlib
from collections.abc import Collection
from typing import Any


def plain_text_copy(definition: dict[str, Any], always_special: Collection[str] = ()) -> dict[str, Any]:
    """Returns a ``tokenizer.json`` for encoding corpora, made from ``definition`` (which is not changed).

    Added tokens are dropped and, where the model's own vocabulary has them too, renamed there to a string that no text
    contains: a Unigram model, or a BPE model with ``ignore_merges``, would find them without being asked.

    Args:
        definition: A parsed ``tokenizer.json``.
        always_special: Strings that are special although no added token says so (the end of text).
    """
    hidden = {*hidden_tokens(definition), *always_special}
    kept = [token for token in definition.get("added_tokens") or [] if token["content"] not in hidden]
    model = _without_pieces(definition["model"], hidden)
    off = {"post_processor": None, "truncation": None, "padding": None}
    return {**definition, **off, "model": model, "added_tokens": kept}


def hidden_tokens(definition: dict[str, Any]) -> dict[str, int]:
    """Name to id of the added tokens that text must not be able to spell."""
    added = definition.get("added_tokens") or []
    return {token["content"]: int(token["id"]) for token in added if not _is_text(token)}


def _is_text(token: dict[str, Any]) -> bool:
    # Runs of spaces (GPT-NeoX) and single letters (DeepSeek adds "ü") are text that the vocabulary lacked.
    content = token["content"]
    return not token["special"] and (content.isspace() or len(content) == 1)


def _without_pieces(model: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    """The model with the pieces in ``hidden`` out of reach and all ids as they were."""
    vocabulary = model["vocab"]
    changed = dict(model)
    if isinstance(vocabulary, list):  # Unigram: [[piece, score], ...], the id is the position
        changed["vocab"] = [[_unreachable(piece) if piece in hidden else piece, score] for piece, score in vocabulary]
    else:
        changed["vocab"] = {_unreachable(piece) if piece in hidden else piece: i for piece, i in vocabulary.items()}
    if model.get("unk_token") in hidden:
        changed["unk_token"] = _unreachable(model["unk_token"])
    if model.get("merges"):
        changed["merges"] = [merge for merge in model["merges"] if not _touches(merge, hidden)]
    return changed


def _touches(merge: str | list[str], hidden: set[str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in hidden or right in hidden or left + right in hidden


def _unreachable(piece: str) -> str:
    # Starts with NUL, which normalisation removes and byte-level models never show to their vocabulary.
    return "\0" + hashlib.sha256(piece.encode("utf-8", "surrogatepass")).hexdigest()
