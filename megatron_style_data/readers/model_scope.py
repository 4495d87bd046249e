"""Fetches files of a ModelScope dataset with its own library: ``ms://OWNER/NAME?files=data/part-0*.jsonl``."""

import importlib
from pathlib import Path
from urllib.parse import parse_qsl

from megatron_style_data.errors import MissingInputError, SettingError

SCHEME = "ms://"
_KEYS = ("files", "revision")


def parse_address(address: str) -> tuple[str, dict[str, str]]:
    """Reads ``ms://OWNER/NAME?files=PATTERN&revision=…`` into the name and its keys.

    Raises:
        SettingError: Not a name, a key that is neither, or no ``files``: a whole corpus is not fetched by accident.
    """
    name, _, query = address.removeprefix(SCHEME).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if name.count("/") != 1 or not all(given.values()) or not set(given) <= set(_KEYS) or "files" not in given:
        raise SettingError(
            f"{address}: expected {SCHEME}OWNER/NAME?files=PATTERN, such as files=data/part-00*.jsonl (or files=* for "
            "all of it), and perhaps &revision=NAME."
        )
    return name, given


def downloaded_folder(address: str) -> Path:
    """Fetches the files into ModelScope's cache and returns their folder; what is there already is not fetched again.

    Raises:
        SettingError: The address cannot be.
        MissingInputError: The library is not installed, or the files cannot be fetched.
    """
    name, given = parse_address(address)
    try:
        library = importlib.import_module("modelscope")
    except ModuleNotFoundError as error:
        raise MissingInputError(
            f"{address}: needs ModelScope's library: pip install modelscope. Or fetch the files with "
            f"modelscope download --dataset {name} --local_dir FOLDER and give FOLDER."
        ) from error
    try:
        folder = library.dataset_snapshot_download(
            name, revision=given.get("revision"), allow_file_pattern=given["files"]
        )
    except _errors_of_the_library() as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MissingInputError(
            f"{address}: cannot be fetched ({first_line}); check the name and the network, or give a folder."
        ) from error
    return Path(folder)


def _errors_of_the_library() -> tuple[type[Exception], ...]:
    """What it raises for what is not there, not allowed or not reached; older ones raise only the first two kinds."""
    try:
        return (OSError, ValueError, importlib.import_module("modelscope_hub.errors").HubError)
    except ModuleNotFoundError:
        return (OSError, ValueError)
