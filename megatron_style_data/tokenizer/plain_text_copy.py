"""A copy of a ``tokenizer.json`` that reads special-token strings as ordinary text and gives every token the same id.

HF tokenizers look for added tokens in raw text, so a literal ``<|endoftext|>`` in a corpus would become the id that
ends documents. ``Tokenizer.encode_special_tokens`` switches that off only for tokens marked special (chat and tool
tokens are often added without the mark), and a Unigram model or a BPE model with ``ignore_merges`` finds special tokens
in its own vocabulary. So the copy has other names for them, which no text contains. They are renamed and not dropped,
because the library numbers added tokens by counting them.
"""

import hashlib
from collections.abc import Collection
from typing import Any


def plain_text_copy(definition: dict[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    """Returns a ``tokenizer.json`` for encoding corpora, made from ``definition`` (which is not changed).

    Args:
        definition: A parsed ``tokenizer.json``.
        hidden: Names of the tokens that text must not be able to spell.
    """
    names = {name: unreachable_name(name) for name in hidden}
    return {
        **definition,
        "added_tokens": [_renamed_token(token, names) for token in definition.get("added_tokens") or []],
        "model": _renamed_model(definition["model"], names),
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def hidden_names(definition: dict[str, Any]) -> list[str]:
    """Names of the added tokens that text must not be able to spell: all but those that are plainly text.

    Runs of spaces (GPT-NeoX adds them) and single letters (DeepSeek adds "ü") are text that the vocabulary lacked.
    """
    return [
        token["content"]
        for token in definition.get("added_tokens") or []
        if token["special"] or not (token["content"].isspace() or len(token["content"]) == 1)
    ]


def unreachable_name(name: str) -> str:
    """What the token ``name`` is called in the copy.

    It starts with NUL, which normalisation takes out of texts and byte-level models never show to their vocabulary.
    """
    return "\0" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _renamed_token(token: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    if token["content"] not in names:
        return token
    return {**token, "content": names[token["content"]], "normalized": False, "lstrip": False, "rstrip": False}


def _renamed_model(model: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    vocabulary = model["vocab"]
    changed = dict(model)
    if isinstance(vocabulary, list):  # Unigram: [[piece, score], ...], the id is the position
        changed["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    else:
        changed["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    if model.get("unk_token") in names:
        changed["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        changed["merges"] = [merge for merge in model["merges"] if not _touches(merge, names)]
    return changed


def _touches(merge: str | list[str], names: Collection[str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in names or right in names or left + right in names
