"""Finds and loads a tokenizer: a folder, a ``tokenizer.json`` or a sentencepiece ``.model``."""

from pathlib import Path

from megatron_style_data.errors import MissingInputError, SettingError
from megatron_style_data.tokenizer.huggingface import load_huggingface
from megatron_style_data.tokenizer.protocol import Tokenizer


def load_tokenizer(path: str | Path, *, end_of_text: str | None = None) -> Tokenizer:
    """Loads a tokenizer for encoding corpora.

    Args:
        path: A folder (its ``tokenizer.json``, else its only ``*.model``), a ``.json`` or a ``.model`` file.
        end_of_text: The token that ends a document; None: found in the files (``huggingface.py`` says how).

    Raises:
        MissingInputError: Nothing is there, or the folder holds no tokenizer.
        BadDataError: The file is not a tokenizer.
        SettingError: A file of another type, or no end-of-text token.
    """
    file = find_tokenizer_file(Path(path))
    if file.suffix == ".json":
        return load_huggingface(file, end_of_text)
    raise SettingError(f"{file}: not a tokenizer file; expected tokenizer.json or a sentencepiece .model.")


def find_tokenizer_file(path: Path) -> Path:
    """The tokenizer file that ``path`` means.

    Raises:
        MissingInputError: Nothing is there, or the folder holds no tokenizer.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise MissingInputError(
            f"{path}: no such file or folder; expected a tokenizer (`zhgpt tokenizer train` makes one)."
        )
    if (path / "tokenizer.json").is_file():
        return path / "tokenizer.json"
    found = sorted(path.glob("*.model"))
    if len(found) == 1:
        return found[0]
    raise MissingInputError(
        f"{path}: holds no tokenizer.json and {len(found)} .model files; name the tokenizer file itself."
    )
