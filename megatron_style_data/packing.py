"""Best-fit packing of a split: documents that fit into a sample stay whole, longer ones are cut as rarely as can be.

A document of q * S + r tokens gives q full samples and, if r > 0, a rest of r tokens; a document shorter than S is all
rest. Rests are packed best-fit-decreasing into bins of S. The rest of a longer document is its end or its head: in each
bin the first of them is an end, which comes first, so that the token before it can be its context; the last is a head,
which comes last, so that nothing follows it. Only a third, fourth ... one in a bin stands out of its context: its first
token is predicted from an end-of-text token.
"""

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
    if path.exists() and not force:
        raise StorageError(f"{path}: exists already; pass --force to make it again.")
    write_packing(path, plan_packing(_lengths(dataset, record), sequence_length), split, manifest.fingerprint)
    return open_packing(prefix, split, sequence_length, manifest.fingerprint, verify=True)


def plan_packing(lengths: NDArray[np.int32], sequence_length: int) -> Packing:
    """The packing of documents of these lengths.

    Args:
        lengths: (documents,) tokens of each, end-of-text token included.
        sequence_length: S.
    """
    from megatron_style_data.best_fit import pack_best_fit  # numba takes seconds to load

    check_documents(len(lengths))
    rests = lengths % sequence_length
    documents = np.flatnonzero(rests).astype(np.uint32)
    bins = pack_best_fit(rests[documents], sequence_length)
    long = np.flatnonzero(lengths >= sequence_length)
    pieces = documents[bins.pieces]
    heads, out_of_context = _arrange(pieces, bins.starts, lengths > sequence_length)
    return Packing(
        sequence_length=sequence_length,
        documents=len(lengths),
        tokens=int(lengths.sum(dtype=np.int64)),
        out_of_context=out_of_context,
        by_room=bins.by_room,
        full_ends=np.cumsum(lengths[long] // sequence_length, dtype=np.int64),
        bin_starts=bins.starts,
        long_codes=(2 * long + heads[long]).astype(np.uint32),
        piece_codes=2 * pieces + heads[pieces].astype(np.uint32),
    )


def check_documents(documents: int) -> None:
    """Holds that document numbers fit into the file.

    Raises:
        BadDataError: There are too many.
    """
    if documents >= _LARGEST:
        raise BadDataError(
            f"{documents} documents in one split, but a packing holds less than {_LARGEST}; split the dataset."
        )


def _arrange(
    pieces: NDArray[np.uint32], starts: NDArray[np.int64], is_long: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int]:
    """Puts, in place, the first rest of a long document to the front of its bin and the last to its end.

    Returns:
        Which documents have their rest at their head; how many rests are neither first nor last.
    """
    heads = np.zeros(len(is_long), np.bool_)
    places = np.flatnonzero(is_long[pieces])
    bins = np.searchsorted(starts, places, side="right") - 1
    changes = np.diff(bins, prepend=-1, append=-1) != 0
    first, last = changes[:-1], changes[1:] & ~changes[:-1]
    heads[pieces[places[last]]] = True
    for chosen, goals in ((first, starts[bins[first]]), (last, starts[bins[last] + 1] - 1)):
        here = places[chosen]
        pieces[here], pieces[goals] = pieces[goals], pieces[here]
    return heads, int(len(places) - first.sum() - last.sum())


def _lengths(dataset: IndexedDataset, record: SplitRecord) -> NDArray[np.int32]:
    """(documents,) tokens of each document of a split."""
    lengths = np.empty(record.documents, np.int32)
    for start in range(0, record.documents, _CHUNK_DOCUMENTS):
        end = min(start + _CHUNK_DOCUMENTS, record.documents)
        bounds = dataset.document_starts(record.first_document + start, record.first_document + end + 1)
        lengths[start:end] = np.diff(bounds)
    return lengths
