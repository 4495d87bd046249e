"""The run's tokenizer as files that ``AutoTokenizer`` loads, proven to give the same ids."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_style_data.tokenizer import PADDING, Tokenizer, load_tokenizer
from megatron_style_data.tokenizer.sentencepiece_to_json import definition_of
from zhgpt.errors import BadDataError, MissingInputError

DEFINITION_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
COPIED_FILES = (
    DEFINITION_FILE,
    CONFIG_FILE,
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
PROBE_TEXTS = (
    "村民们都很高兴，在山上种了一千二百棵树。",
    "“你来了？”他说，“等等……”（见《三国演义》第1回）",
    "第一条　为了保护公民的权利，制定本法。\n第二条 适用于2024年12月31日以前。",
    "GPT-2 has 124M parameters; naïve café.",
    "𠮷野家🙂\t\u00a0x",
)


@dataclass(frozen=True)
class ExportedTokenizer:
    """What the model's config says about special tokens, and what a user should know."""

    end_of_text_id: int
    padding_id: int
    note: str | None


def export_tokenizer(tokenizer_dir: Path, out_dir: Path) -> ExportedTokenizer:
    """Write the tokenizer's files into ``out_dir``.

    A folder with ``tokenizer.json`` is copied. A lone sentencepiece ``.model`` is copied and written as
    ``tokenizer.json`` too where that gives the same ids; where it does not (a unigram model trained elsewhere, a
    normaliser), the note says so.

    Raises:
        MissingInputError: there is no tokenizer in ``tokenizer_dir``.
    """
    if not tokenizer_dir.exists():
        raise MissingInputError(
            f"{tokenizer_dir}: no such folder; expected the tokenizer that the run was trained with."
        )
    tokenizer = load_tokenizer(tokenizer_dir)
    folder = tokenizer_dir if tokenizer_dir.is_dir() else tokenizer_dir.parent
    for name in COPIED_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out_dir / name)
    note = None
    if not (out_dir / DEFINITION_FILE).is_file():
        note = _write_sentencepiece(tokenizer_dir, tokenizer, out_dir)
    elif not (out_dir / CONFIG_FILE).is_file():
        _write_config(tokenizer, out_dir)
    padding_id = tokenizer.special_tokens.get(PADDING, tokenizer.end_of_text_id)
    return ExportedTokenizer(tokenizer.end_of_text_id, padding_id, note)


def verify_tokenizer(out_dir: Path, tokenizer_dir: Path) -> None:
    """Check that ``AutoTokenizer`` gives the ids that the model was trained on.

    Raises:
        BadDataError: it gives others for a probe text.
    """
    expected = load_tokenizer(tokenizer_dir).encode_batch(list(PROBE_TEXTS))
    for text, ids, expected_ids in zip(PROBE_TEXTS, auto_tokenizer_ids(out_dir), expected, strict=True):
        if ids != expected_ids:
            raise BadDataError(
                f"{tokenizer_dir}: transformers' AutoTokenizer gives {ids[:8]}... for {text!r} where the model was "
                f'trained on {expected_ids[:8]}...; set "tokenizer_class": "PreTrainedTokenizerFast" in its '
                f"{CONFIG_FILE} so that {DEFINITION_FILE} is taken as it is."
            )


def auto_tokenizer_ids(folder: Path) -> list[list[int]]:
    """Ids of ``PROBE_TEXTS`` from ``AutoTokenizer``, no special tokens added."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROBE_TEXTS]


def _write_sentencepiece(source: Path, tokenizer: Tokenizer, out_dir: Path) -> str | None:
    """Write a lone ``.model`` file as ``tokenizer.json`` if that can be done exactly; return what to say if not."""
    from tokenizers import Tokenizer as Definition

    file = source if source.is_file() else next(iter(sorted(source.glob("*.model"))))
    shutil.copyfile(file, out_dir / "tokenizer.model")
    expected = tokenizer.encode_batch(list(PROBE_TEXTS))
    plain = definition_of(file.read_bytes(), str(file))
    why = plain if isinstance(plain, str) else "it has a normaliser, or no byte fallback"
    for definition in [] if isinstance(plain, str) else [plain, _with_dummy_prefix(plain)]:
        text = json.dumps(definition, ensure_ascii=False)
        found = Definition.from_str(text).encode_batch(list(PROBE_TEXTS), add_special_tokens=False)
        if [encoding.ids for encoding in found] == expected:
            (out_dir / DEFINITION_FILE).write_text(text, encoding="utf-8")
            _write_config(tokenizer, out_dir)
            return None
    return (
        f"{file.name} was copied as it is: it cannot be written exactly as tokenizer.json ({why}), so AutoTokenizer does "
        "not load it; use sentencepiece with the tokenizer.model beside the model."
    )


def _with_dummy_prefix(definition: dict[str, Any]) -> dict[str, Any]:
    """The same for a model that puts a space before each text (sentencepiece's add_dummy_prefix), as Llama's does."""
    prepend = {"type": "Prepend", "prepend": "▁"}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [*definition["decoder"]["decoders"], strip]
    return definition | {
        "normalizer": {"type": "Sequence", "normalizers": [prepend, definition["normalizer"]]},
        "decoder": {"type": "Sequence", "decoders": decoders},
    }


def _write_config(tokenizer: Tokenizer, out_dir: Path) -> None:
    """Without it transformers builds its own class for the model type around the vocabulary, with another splitting."""
    padding = PADDING if PADDING in tokenizer.special_tokens else tokenizer.end_of_text
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.end_of_text,
        "eos_token": tokenizer.end_of_text,
        "pad_token": padding,
        "clean_up_tokenization_spaces": False,
    }
    (out_dir / CONFIG_FILE).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
