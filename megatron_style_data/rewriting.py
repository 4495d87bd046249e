"""Writes a new dataset from the documents of finished ones, in a given order, and publishes it whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.atomic import atomic_write_bytes
from megatron_style_data.build_assembly import StoredTokens, TokenFiles, write_files
from megatron_style_data.build_folder import private_folder
from megatron_style_data.entropy import measure_floor
from megatron_style_data.errors import MissingInputError
from megatron_style_data.indexed_dataset import IndexedDataset, path_bin
from megatron_style_data.manifest import (
    SPLITS,
    Manifest,
    Origin,
    SourceRecord,
    SplitName,
    SplitRecord,
    TokenizerRecord,
    load_manifest,
    manifest_bytes,
    path_manifest,
    recorded_path,
)
from megatron_style_data.publish import ASIDE, publish


@dataclass(frozen=True, slots=True)
class OpenedDataset:
    """A finished dataset that is read.

    Attributes:
        prefix: Its PREFIX.
        manifest: Its manifest.
        lengths: (documents,) int64, tokens of each document.
    """

    prefix: Path
    manifest: Manifest
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The documents of the new dataset.

    Attributes:
        order: (documents,) numbers counted through all datasets that are read, in the order of the new one.
        documents: Documents of each of its splits, in the order of `SPLITS`.
        utf8_bytes: Bytes of the texts of each of its splits.
    """

    order: NDArray[np.int64]
    documents: Mapping[SplitName, int]
    utf8_bytes: Mapping[SplitName, int]


@dataclass(frozen=True, slots=True)
class Description:
    """What the new manifest says of where the documents come from."""

    origin: Origin
    sources: list[SourceRecord]
    settings: dict[str, str | int | float | bool | None]
    documents_without_end_of_text: int


def open_finished(prefix: Path) -> OpenedDataset:
    """Opens a dataset to copy documents of it.

    Raises:
        MissingInputError: There is none.
        BadDataError: It is damaged.
    """
    manifest = load_manifest(prefix)
    dataset = IndexedDataset.open(prefix)
    return OpenedDataset(prefix, manifest, np.diff(dataset.document_starts(0, len(dataset) + 1)))


def write_selection(
    output: Path,
    read: Sequence[OpenedDataset],
    selection: Selection,
    description: Description,
    *,
    force: bool,
    report: Callable[[str], None],
) -> Manifest:
    """Copies documents into a new dataset, measures its floor, and publishes it.

    Documents of several sequences, as files from elsewhere may have them, become one sequence each.

    Args:
        output: PREFIX of the new dataset.
        read: Where the documents are; all have the same tokenizer and type of tokens.
        selection: Which documents.
        description: What the manifest says of them.
        force: Replace a dataset that is there.
        report: Told what is being done.

    Raises:
        StorageError: The output exists, or cannot be written.
    """
    lengths = np.concatenate([one.lengths for one in read]).astype(np.int32)
    first = read[0].manifest
    files = TokenFiles([path_bin(one.prefix) for one in read], [one.manifest.tokens for one in read], first.dtype)
    with private_folder(output, force) as folder:
        report("writing")
        checksums = write_files(folder / ASIDE, files, lengths, selection.order)
        splits = _split_records(selection, lengths)
        tokens = StoredTokens(path_bin(folder / ASIDE), files.dtype, sum(split.tokens for split in splits.values()))
        report("measuring")
        manifest = Manifest(
            origin=description.origin,
            tokenizer=_tokenizer_record(read[0], output),
            dtype=files.dtype,
            documents=len(selection.order),
            sequences=len(selection.order),
            tokens=len(tokens),
            utf8_bytes=sum(selection.utf8_bytes.values()),
            documents_without_end_of_text=description.documents_without_end_of_text,
            checksums=checksums,
            splits=splits,
            sources=description.sources,
            settings=description.settings,
            floor=measure_floor(tokens, splits, first.tokenizer.vocab_size),
        )
        atomic_write_bytes(path_manifest(folder / ASIDE), manifest_bytes(manifest))
        publish(folder, output)
    return manifest


def _split_records(selection: Selection, lengths: NDArray[np.int32]) -> dict[SplitName, SplitRecord]:
    records: dict[SplitName, SplitRecord] = {}
    document, token = 0, 0
    for name in SPLITS:
        count = selection.documents.get(name, 0)
        if count == 0:
            continue
        tokens = int(lengths[selection.order[document : document + count]].sum(dtype=np.int64))
        records[name] = SplitRecord(document, count, token, tokens, selection.utf8_bytes[name])
        document, token = document + count, token + tokens
    return records


def _tokenizer_record(read: OpenedDataset, output: Path) -> TokenizerRecord:
    """The tokenizer as the new dataset sees it; as it was recorded where it is no longer there."""
    recorded = read.manifest.tokenizer
    try:
        return replace(recorded, path=recorded_path(read.manifest.tokenizer_path(read.prefix), output))
    except MissingInputError:
        return recorded
