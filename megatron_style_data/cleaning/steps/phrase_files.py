"""Files of phrases: one a line, blank lines and lines that begin with # left out."""

from pathlib import Path

from megatron_style_data.errors import BadDataError, MissingInputError


def read_phrases(path: Path) -> list[str]:
    """The phrases of a UTF-8 file, each once, in its order.

    Raises:
        MissingInputError: The file does not exist.
        BadDataError: It is not UTF-8 or holds no phrase.
    """
    try:
        content = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingInputError(f"{path}: no such file; expected phrases, one a line.") from error
    except UnicodeDecodeError as error:
        raise BadDataError(
            f"{path}: byte {error.start} is not UTF-8; expected phrases in UTF-8, one a line "
            "(iconv -f GB18030 -t UTF-8 converts a Chinese file)."
        ) from error
    lines = (line.strip() for line in content.splitlines())
    phrases = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not phrases:
        raise BadDataError(f"{path}: holds no phrase; expected one a line (lines that begin with # are comments).")
    return phrases
