"""Streams a dataset of the Hugging Face hub, or of a folder in its layout: ``hf://liwu/MNBVC?name=…&split=train``."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.readers.bad_documents import BadDocuments

SCHEME = "hf://"
_LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text"}
_KEYS = ("name", "split", "field", "revision", "files")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """What an ``hf://`` address names.

    Attributes:
        path: OWNER/NAME on the hub, or a folder of this machine.
        name: The configuration (subset); None: the default one.
        split: The split.
        field: The text field; None: as the records say.
        revision: Branch, tag or commit on the hub.
        files: Pattern of files within the dataset, which are then read as they are: for datasets that have a loading
            script, which ``datasets`` runs no more, and where not all files are wanted.
    """

    path: str
    name: str | None = None
    split: str = "train"
    field: str | None = None
    revision: str | None = None
    files: str | None = None


def parse_address(address: str) -> HubDataset:
    """Reads ``hf://PATH?name=…&split=…&field=…&revision=…&files=…``; everything after the path may be left out.

    Raises:
        SettingError: No path, or a key that is none of these.
    """
    path, _, query = address.removeprefix(SCHEME).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    wrong = [key for key, value in given.items() if key not in _KEYS or not value]
    if not path or wrong:
        found = f"{wrong[0]}={given[wrong[0]]}" if wrong else "no path"
        raise SettingError(f"{address}: has {found}; expected {SCHEME}OWNER/NAME?KEY=VALUE&… with {', '.join(_KEYS)}.")
    return HubDataset(path, **given)


def hub_records(bad: BadDocuments) -> Iterator[tuple[int, dict[str, Any], None]]:
    """Yields (row number from 1, record, None) as they arrive; nothing is stored.

    Raises:
        SettingError: The address or what it asks for cannot be.
        MissingInputError: No network, no such dataset, or no access to it.
        BadDataError: The dataset's files cannot be read.
    """
    address = bad.file.source
    asked = parse_address(address)
    with _faults_named(address):
        try:
            rows = _open(asked)
        except (ValueError, NotImplementedError) as error:  # a configuration or split that is not there
            raise SettingError(f"{address}: {_first_line(error)}") from error
        except StopIteration as error:  # what datasets' JSON loader raises where there is no file
            raise MissingInputError(
                f"{address}: no file has such a name; expected a dataset with these files."
            ) from error
        for number, record in enumerate(rows, 1):
            yield number, dict(record), None


def _open(asked: HubDataset) -> Iterable[Mapping[str, Any]]:
    import datasets  # it takes seconds to load

    if asked.files is None:
        rows = datasets.load_dataset(asked.path, asked.name, split=asked.split, revision=asked.revision, streaming=True)
    else:  # the files themselves, whatever script or configuration lies beside them
        revision = f"@{asked.revision}" if asked.revision else ""
        folder = asked.path if os.path.isdir(asked.path) else f"hf://datasets/{asked.path}{revision}"
        files = {asked.split: f"{folder}/{asked.files}"}
        rows = datasets.load_dataset(_loader(asked.files), data_files=files, split=asked.split, streaming=True)
    return cast(Iterable[Mapping[str, Any]], rows)


def _loader(files: str) -> str:
    """The loader of ``datasets`` for files of this name."""
    for ending, loader in _LOADERS.items():
        if re.search(rf"{re.escape(ending)}(\.gz|\.zst)?$", files):
            return loader
    raise ValueError(f"files={files} has none of the endings {', '.join(_LOADERS)} (or these with .gz, .zst)")


@contextmanager
def _faults_named(address: str) -> Iterator[None]:
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HTTPError  # of whichever HTTP library it is built on

    try:
        yield
    except DatasetNotFoundError as error:
        raise MissingInputError(
            f"{address}: {_first_line(error)}; check the name, and log in (hf auth login) if it asks for consent."
        ) from error
    except (ConnectionError, TimeoutError, HTTPError) as error:
        raise MissingInputError(
            f"{address}: cannot be reached ({_first_line(error)}). Without network, download the files elsewhere and "
            "give their folder; where the hub cannot be reached, set HF_ENDPOINT to a mirror, such as "
            "HF_ENDPOINT=https://hf-mirror.com."
        ) from error
    except FileNotFoundError as error:
        raise MissingInputError(f"{address}: {_first_line(error)}; expected a dataset with these files.") from error
    except (DatasetsError, OSError, RuntimeError, ValueError) as error:
        raise BadDataError(
            f"{address}: cannot be read by the datasets library ({_first_line(error)}); name its files with files=…, or "
            "download them and give their folder, whose records are read one by one."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
