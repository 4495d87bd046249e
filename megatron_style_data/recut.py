"""Cuts a finished dataset anew without its texts: other held-out documents, or two datasets of one.

Which documents are held out is decided by their tokens alone (one text has one sequence of tokens), so that it never
changes and duplicates stay together. The sources of single documents are not known any more: fractions are of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from megatron_style_data.errors import SettingError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.inspection import dataset_tokenizer
from megatron_style_data.manifest import SPLITS, Manifest, SourceRecord, SplitName
from megatron_style_data.rewriting import Description, OpenedDataset, Selection, open_finished, write_selection
from megatron_style_data.splits import assign_splits, check_fractions
from megatron_style_data.tokenizer import Tokenizer

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RecutSettings:
    """What is cut.

    Attributes:
        prefix: The dataset; it stays as it is.
        output: PREFIX of the new one.
        tokenizer: Where the tokenizer is; None: as recorded. It counts the bytes of texts.
        seed: Decides which documents are held out.
        force: Replace a dataset that is there.
    """

    prefix: Path
    output: Path
    tokenizer: Path | None = None
    seed: int = 0
    force: bool = False


def hold_out_anew(
    settings: RecutSettings, valid_fraction: float, test_fraction: float, report: Tell = lambda stage: None
) -> Manifest:
    """Writes a dataset of the same documents of which others are held out.

    Of n documents the ceil(valid_fraction * n) with the lowest hashes of their tokens are valid, the next
    ceil(test_fraction * n) are test; documents of the same tokens are in the same split.

    Raises:
        SettingError: Fractions that cannot be.
        BadDataError: The dataset is damaged, or nothing is left to train on.
        MissingInputError: It or its tokenizer is not there.
        StorageError: The output exists, or cannot be written.
    """
    check_fractions(valid_fraction, test_fraction)
    read = open_finished(settings.prefix)
    dataset = IndexedDataset.open(settings.prefix)
    tokenizer = dataset_tokenizer(settings.prefix, read.manifest, settings.tokenizer)
    report("hashing")
    hashes = _token_hashes(dataset, read.lengths, settings.seed)
    one_source = np.zeros(len(hashes), np.int32)
    splits = assign_splits(hashes, one_source, valid_fraction, test_fraction)
    order = np.argsort(splits, kind="stable")
    documents = {name: int(np.count_nonzero(splits == number)) for number, name in enumerate(SPLITS)}
    utf8_bytes: dict[SplitName, int] = {
        name: _text_bytes(dataset, tokenizer, np.flatnonzero(splits == number))
        for number, name in enumerate(SPLITS)
        if name != "train"
    }
    utf8_bytes["train"] = read.manifest.utf8_bytes - sum(utf8_bytes.values())
    description = Description(
        origin="split",
        sources=read.manifest.sources,
        settings={
            **read.manifest.settings,
            "split_of": settings.prefix.name,
            "valid_fraction": valid_fraction,
            "test_fraction": test_fraction,
            "seed": settings.seed,
        },
        documents_without_end_of_text=read.manifest.documents_without_end_of_text,
    )
    selection = Selection(order, documents, utf8_bytes)
    return write_selection(settings.output, [read], selection, description, force=settings.force, report=report)


def cut_in_two(
    settings: RecutSettings, documents: int, rest: Path, report: Tell = lambda stage: None
) -> list[Manifest]:
    """Writes the first documents of train as one dataset and the others as a second one.

    Both get all of valid and test: what is held out stays held out, and their losses can be compared.

    Args:
        settings: What is cut; ``output`` is the first one.
        documents: How many documents of train it gets.
        rest: PREFIX of the second one.
        report: Told what is being done.

    Raises:
        SettingError: Not fewer documents than there are, or one output for both. Also what ``hold_out_anew`` raises.
    """
    read = open_finished(settings.prefix)
    train = read.manifest.splits["train"]
    if not 0 < documents < train.documents:
        raise SettingError(
            f"--documents {documents}: {settings.prefix} has {train.documents} documents of train; "
            f"expected 1 to {train.documents - 1}."
        )
    if settings.output.resolve() == rest.resolve():
        raise SettingError(f"{rest}: is named for both parts; give them different names.")
    dataset = IndexedDataset.open(settings.prefix)
    tokenizer = dataset_tokenizer(settings.prefix, read.manifest, settings.tokenizer)
    smaller = np.arange(documents) if 2 * documents <= train.documents else np.arange(documents, train.documents)
    counted = _text_bytes(dataset, tokenizer, smaller)
    first_bytes = counted if len(smaller) == documents and smaller[0] == 0 else train.utf8_bytes - counted
    return [
        _write_part(settings, output, read, dataset, (start, end), utf8_bytes, report)
        for output, start, end, utf8_bytes in (
            (settings.output, 0, documents, first_bytes),
            (rest, documents, train.documents, train.utf8_bytes - first_bytes),
        )
    ]


def _write_part(
    settings: RecutSettings,
    output: Path,
    read: OpenedDataset,
    dataset: IndexedDataset,
    train: tuple[int, int],
    train_bytes: int,
    report: Tell,
) -> Manifest:
    manifest = read.manifest
    held_out = np.arange(manifest.splits["train"].documents, manifest.documents)
    order = np.concatenate([np.arange(*train), held_out])
    documents = {name: split.documents for name, split in manifest.splits.items()} | {"train": train[1] - train[0]}
    utf8_bytes = {name: split.utf8_bytes for name, split in manifest.splits.items()} | {"train": train_bytes}
    size = sum(utf8_bytes.values())
    tokens = int(read.lengths[order].sum())
    name = f"{settings.prefix.name}, documents {train[0]} to {train[1] - 1} of train"
    description = Description(
        origin="split",
        sources=[SourceRecord(name, len(order), tokens, size, {}, {})],
        settings={
            **manifest.settings,
            "split_of": settings.prefix.name,
            "first_document": train[0],
            "documents": train[1] - train[0],
        },
        documents_without_end_of_text=_open_ended(dataset, manifest, order),
    )
    selection = Selection(order, documents, utf8_bytes)
    return write_selection(output, [read], selection, description, force=settings.force, report=report)


def _open_ended(dataset: IndexedDataset, manifest: Manifest, order: NDArray[np.int64]) -> int:
    """Documents among `order` that do not end with the end-of-text token."""
    if manifest.documents_without_end_of_text == 0:
        return 0
    end_of_text = manifest.tokenizer.end_of_text_id
    documents = (dataset.document(number) for number in order.tolist())
    return sum(not (len(tokens) and tokens[-1] == end_of_text) for tokens in documents)


def _token_hashes(dataset: IndexedDataset, lengths: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """(documents,) xxh3-64 of the bytes of each document's tokens, keyed by the seed."""
    key = seed & (1 << 64) - 1
    bounds = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    return np.array(
        [xxhash.xxh3_64_intdigest(dataset.tokens[start:end].data, seed=key) for start, end in pairwise(bounds)],
        np.uint64,
    )


def _text_bytes(dataset: IndexedDataset, tokenizer: Tokenizer, documents: NDArray[np.int64]) -> int:
    """UTF-8 bytes of the decoded texts of some documents, without end-of-text tokens."""
    total = 0
    for number in documents.tolist():
        ids = dataset.document(number)
        total += len(tokenizer.decode(ids[ids != tokenizer.end_of_text_id].tolist()).encode())
    return total
