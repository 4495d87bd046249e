"""The files of a tokenizer folder, and the two from which transformers learns which ends a text and which pads."""

from pathlib import Path
from typing import Any

from megatron_style_data.atomic import atomic_write_json
from megatron_style_data.tokenizer.special_tokens import END_OF_TEXT, PADDING, SPECIAL_TOKENS

DEFINITION_FILE = "tokenizer.json"
MODEL_FILE = "tokenizer.model"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
TOKENIZER_FILES = (DEFINITION_FILE, MODEL_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE)

# Our own key in it: ``bpe`` or ``sentencepiece``. The latter says that tokenizer.json was made from tokenizer.model.
TRAINED_AS = "trained_as"


def write_tokenizer_config(folder: Path, *, trained_as: str) -> None:
    """Writes ``tokenizer_config.json`` and ``special_tokens_map.json`` for ``SPECIAL_TOKENS``.

    Args:
        folder: Where to write.
        trained_as: ``bpe`` or ``sentencepiece``.
    """
    named = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PADDING}
    others = [token for token in SPECIAL_TOKENS if token not in (END_OF_TEXT, PADDING)]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "unk_token": None,
        "additional_special_tokens": others,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        TRAINED_AS: trained_as,
    }
    atomic_write_json(folder / CONFIG_FILE, config)
    atomic_write_json(folder / SPECIAL_TOKENS_FILE, {**named, "additional_special_tokens": others})
