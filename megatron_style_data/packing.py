"""Makes the best-fit packing of a split: reads the documents' lengths, plans, writes, reads back."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.errors import BadDataError, StorageError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.manifest import SplitRecord
from megatron_style_data.packing_file import Packing, open_packing, path_packing, write_packing
from megatron_style_data.samples import check_sequence_length, open_split

_LARGEST = 1 << 31
_CHUNK_DOCUMENTS = 1 << 20


def pack(prefix: str | Path, split: str = "train", *, sequence_length: int, force: bool = False) -> Packing:
    """Packs one split of a finished dataset and writes PREFIX.SPLIT-S.packing.

    Args:
        prefix: Path of the dataset without .bin, .idx, .meta.json.
        split: "train", "valid" or "test".
        sequence_length: S, targets a sample.
        force: Replace a packing that is there.

    Raises:
        MissingInputError: No finished dataset there.
        BadDataError: Files and manifest do not belong together, or there is no such split.
        SettingError: sequence_length < 1.
        StorageError: The packing is there already, or cannot be written.
    """
    check_sequence_length(sequence_length)
    dataset, manifest, record = open_split(prefix, split)
    path = path_packing(prefix, split, sequence_length)
    check_documents(path, record.documents)
    if path.exists() and not force:
        raise StorageError(f"{path}: exists already; pass --force to make it again.")
    from megatron_style_data.packing_plan import plan_packing  # numba takes seconds to load

    write_packing(path, plan_packing(_lengths(dataset, record), sequence_length), split, manifest.fingerprint)
    return open_packing(prefix, split, sequence_length, manifest.fingerprint, verify=True)


def check_documents(path: Path, documents: int) -> None:
    """Holds that document numbers fit into the file.

    Raises:
        BadDataError: There are too many.
    """
    if documents >= _LARGEST:
        raise BadDataError(
            f"{path}: the split has {documents} documents, but a packing numbers less than {_LARGEST}; split the dataset."
        )


def _lengths(dataset: IndexedDataset, record: SplitRecord) -> NDArray[np.int32]:
    """(documents,) tokens of each document of a split."""
    lengths = np.empty(record.documents, np.int32)
    for start in range(0, record.documents, _CHUNK_DOCUMENTS):
        end = min(start + _CHUNK_DOCUMENTS, record.documents)
        bounds = dataset.document_starts(record.first_document + start, record.first_document + end + 1)
        lengths[start:end] = np.diff(bounds)
    return lengths
