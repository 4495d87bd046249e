"""A copy of a ``tokenizer.json`` that reads special-token strings as ordinary text and gives every token the same id.

HF tokenizers look for added tokens in raw text, so a literal ``<|endoftext|>`` in a corpus would become the id that
ends documents. ``Tokenizer.encode_special_tokens`` switches that off only for tokens marked special (chat and tool
tokens are often added without the mark), and a Unigram model or a BPE model with ``ignore_merges`` finds special tokens
in its own vocabulary. So the copy has other names for them, which no text contains. They are renamed and not dropped,
because the library numbers added tokens by counting them.
"""

import hashlib
import json
from collections.abc import Collection, Sequence, Set
from itertools import chain
from typing import Any

import orjson


def read_definition(content: bytes) -> Any:
    """The JSON of a ``tokenizer.json``, which is a few megabytes: by the fast library where it reads it.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:  # such as half a surrogate pair in a piece; or no JSON, which the other one tells
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def written_definition(definition: dict[str, Any]) -> str:
    """A definition as a ``tokenizer.json`` again."""
    try:
        return orjson.dumps(definition).decode()
    except TypeError:  # the same
        return json.dumps(definition, ensure_ascii=False)


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
        changed["merges"] = _without_names(model["merges"], set(names))
    return changed


def _without_names(merges: Sequence[str] | Sequence[list[str]], names: Set[str]) -> list[Any]:
    """The merges that neither take nor make one of the names; all of them, as a rule."""
    pairs: list[Any] = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    if names.isdisjoint(chain.from_iterable(pairs)) and names.isdisjoint(map("".join, pairs)):
        return list(merges)
    return [
        merge
        for merge, pair in zip(merges, pairs, strict=True)
        if names.isdisjoint(pair) and "".join(pair) not in names
    ]
