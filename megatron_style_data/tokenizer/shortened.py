"""Smaller tokenizers out of a larger one: byte-level BPE learns the same first merges whatever the size wanted."""

import json
from pathlib import Path

from megatron_style_data.errors import SettingError
from megatron_style_data.tokenizer.huggingface import HuggingFaceTokenizer
from megatron_style_data.tokenizer.loading import find_tokenizer_file
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, SPECIAL_TOKENS

_FIRST_MERGED = 256 + len(SPECIAL_TOKENS)


def shortened(path: Path, vocab_size: int) -> HuggingFaceTokenizer:
    """The tokenizer that the same training gives for a smaller vocabulary.

    Args:
        path: A folder or ``tokenizer.json`` written by ``zhgpt tokenizer train --kind bpe``.
        vocab_size: Its size, special tokens and bytes included.

    Raises:
        SettingError: A tokenizer of another kind, or a size that it does not hold.
    """
    file = find_tokenizer_file(path)
    definition = json.loads(file.read_bytes()) if file.suffix == ".json" else {}
    model = definition.get("model", {})
    names = sorted(model.get("vocab", {}), key=model.get("vocab", {}).get)
    learned = ["".join(merge) for merge in model.get("merges", ())]
    if (
        model.get("type") != "BPE"
        or names[: len(SPECIAL_TOKENS)] != [*SPECIAL_TOKENS]
        or names[_FIRST_MERGED:] != learned
    ):
        raise SettingError(
            f"{path}: its ids are not in the order of its merges, so that a smaller one cannot be cut from it; expected "
            f"a tokenizer of `zhgpt tokenizer train --kind bpe`."
        )
    if not _FIRST_MERGED <= vocab_size <= len(names):
        raise SettingError(f"{path}: vocab_size {vocab_size} is not between {_FIRST_MERGED} and its {len(names)}.")
    model["vocab"] = {name: number for number, name in enumerate(names[:vocab_size])}
    model["merges"] = model["merges"][: vocab_size - _FIRST_MERGED]
    content = json.dumps(definition, ensure_ascii=False).encode()
    return HuggingFaceTokenizer(content, END_OF_TEXT, f"{path} at {vocab_size} tokens")
