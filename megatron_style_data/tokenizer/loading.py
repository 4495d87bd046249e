"""Finds and loads a tokenizer: a folder, a ``tokenizer.json`` or a sentencepiece ``.model``."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.tokenizer.protocol import Tokenizer
from megatron_style_data.tokenizer.transformers_files import CONFIG_FILE, DEFINITION_FILE, MODEL_FILE, TRAINED_AS


# The libraries are imported where they are used: a build loads one of them, and its workers none.
def _load_json(path: Path, end_of_text: str | None) -> Tokenizer:
    from megatron_style_data.tokenizer.huggingface import load_huggingface

    return load_huggingface(path, end_of_text)


def _load_model(path: Path, end_of_text: str | None) -> Tokenizer:
    from megatron_style_data.tokenizer.sentencepiece_model import load_sentencepiece

    return load_sentencepiece(path, end_of_text)


_LOADERS: Mapping[str, Callable[[Path, str | None], Tokenizer]] = MappingProxyType(
    {".json": _load_json, ".model": _load_model}
)


def load_tokenizer(path: str | Path, *, end_of_text: str | None = None) -> Tokenizer:
    """Loads a tokenizer for encoding corpora.

    Args:
        path: A folder (see ``find_tokenizer_file``), a ``.json`` or a ``.model`` file.
        end_of_text: The token that ends a document; None: found in the files (``load_huggingface`` says how).

    Raises:
        MissingInputError: Nothing is there, or the folder holds no tokenizer.
        BadDataError: The file is not a tokenizer.
        SettingError: A file of another type, or no end-of-text token.
    """
    file = find_tokenizer_file(Path(path))
    if file.suffix in _LOADERS:
        return _LOADERS[file.suffix](file, end_of_text)
    raise SettingError(f"{file}: not a tokenizer file; expected tokenizer.json or a sentencepiece .model.")


def find_tokenizer_file(path: Path) -> Path:
    """The tokenizer file that ``path`` means.

    In a folder that is its ``tokenizer.json``, else its only ``*.model``; but the ``tokenizer.model`` where the
    ``tokenizer.json`` was made from it by sentencepiece training.

    Raises:
        MissingInputError: Nothing is there, or the folder holds no tokenizer.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise MissingInputError(
            f"{path}: no such file or folder; expected a tokenizer (`zhgpt tokenizer train` makes one)."
        )
    if _trained_as_sentencepiece(path) and (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    if (path / DEFINITION_FILE).is_file():
        return path / DEFINITION_FILE
    found = sorted(path.glob("*.model"))
    if len(found) == 1:
        return found[0]
    raise MissingInputError(
        f"{path}: holds no tokenizer.json and {len(found)} .model files; name the tokenizer file itself."
    )


def _trained_as_sentencepiece(folder: Path) -> bool:
    config = folder / CONFIG_FILE
    if not config.is_file():
        return False
    try:
        settings = json.loads(config.read_bytes())
    except ValueError as error:
        raise BadDataError(f"{config}: is not JSON ({error}); repair or remove it.") from error
    return isinstance(settings, dict) and settings.get(TRAINED_AS) == "sentencepiece"
