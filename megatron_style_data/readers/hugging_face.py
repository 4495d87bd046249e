"""Streams a dataset of the Hugging Face hub, or of a folder in its layout: ``hf://liwu/MNBVC?name=…&split=train``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from megatron_style_data.errors import BadDataError, MissingInputError, SettingError
from megatron_style_data.readers.bad_documents import BadDocuments

SCHEME = "hf://"
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
        files: Pattern of the files within the dataset, where not all are wanted.
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
        import datasets  # it takes a second to load

        rows = datasets.load_dataset(
            asked.path,
            asked.name,
            split=asked.split,
            revision=asked.revision,
            data_files=asked.files,
            streaming=True,
        )
        for number, record in enumerate(rows, 1):
            yield number, dict(record), None


@contextmanager
def _faults_named(address: str) -> Iterator[None]:
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except DatasetNotFoundError as error:
        raise MissingInputError(
            f"{address}: {_first_line(error)}; check the name, and log in (hf auth login) if it asks for consent."
        ) from error
    except (ConnectionError, TimeoutError, HfHubHTTPError) as error:
        raise MissingInputError(
            f"{address}: cannot be reached ({_first_line(error)}). Without network, download the files elsewhere and "
            "give their folder; where the hub cannot be reached, set HF_ENDPOINT to a mirror, such as "
            "HF_ENDPOINT=https://hf-mirror.com."
        ) from error
    except FileNotFoundError as error:
        raise MissingInputError(f"{address}: {_first_line(error)}; expected a dataset with these files.") from error
    except (ValueError, NotImplementedError) as error:  # a configuration or split that is not there
        raise SettingError(f"{address}: {_first_line(error)}") from error
    except (DatasetsError, OSError, RuntimeError) as error:
        raise BadDataError(f"{address}: cannot be read ({_first_line(error)}).") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
