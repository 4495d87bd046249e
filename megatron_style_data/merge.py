"""Merges datasets of one tokenizer into one: train of all, then valid of all, then test of all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.manifest import SPLITS, Manifest, SourceRecord, SplitName
from megatron_style_data.readers.source_names import MAXIMUM_SOURCES
from megatron_style_data.rewriting import Description, OpenedDataset, Selection, open_finished, write_selection


def merge(
    prefixes: Sequence[Path], output: Path, *, force: bool = False, report: Callable[[str], None] = lambda stage: None
) -> Manifest:
    """Writes all documents of several datasets into a new one; each stays in its split, in its order.

    Args:
        prefixes: The datasets, in the order in which their documents shall lie.
        output: PREFIX of the new dataset.
        force: Replace a dataset that is there.
        report: Told what is being done.

    Returns:
        The manifest of the new dataset.

    Raises:
        SettingError: Fewer than two datasets, or one named twice.
        BadDataError: One has another tokenizer or type of tokens than the first.
        MissingInputError: One is not there.
        StorageError: The output exists, or cannot be written.
    """
    if len(prefixes) < 2:
        raise SettingError("data merge: expected two datasets or more.")
    resolved = [prefix.resolve() for prefix in prefixes]
    for number, prefix in enumerate(prefixes):
        if resolved[number] in resolved[:number]:
            raise SettingError(f"{prefix}: is named twice; its documents would be there twice.")
    read = [open_finished(prefix) for prefix in prefixes]
    for other in read[1:]:
        _check_alike(read[0], other)
    description = Description(
        origin="merged",
        sources=_sources(read),
        settings={"merged": ", ".join(prefix.name for prefix in prefixes)},
        documents_without_end_of_text=sum(one.manifest.documents_without_end_of_text for one in read),
    )
    return write_selection(output, read, _selection(read), description, force=force, report=report)


def _check_alike(first: OpenedDataset, other: OpenedDataset) -> None:
    mine, theirs = first.manifest.tokenizer, other.manifest.tokenizer
    if mine.fingerprint != theirs.fingerprint:
        raise BadDataError(
            f"{other.prefix}: was tokenised with {theirs.path} (fingerprint {theirs.fingerprint[:12]}), but "
            f"{first.prefix} with {mine.path} (fingerprint {mine.fingerprint[:12]}); build one of them again."
        )
    if mine.end_of_text_id != theirs.end_of_text_id:
        raise BadDataError(
            f"{other.prefix}: its documents end with {theirs.end_of_text}, those of {first.prefix} with "
            f"{mine.end_of_text}; build one of them again with the other's --end-of-text."
        )
    if first.manifest.dtype != other.manifest.dtype:
        raise BadDataError(
            f"{other.prefix}: holds {other.manifest.dtype} tokens, {first.prefix} {first.manifest.dtype}; "
            "build one of them again with the other's --dtype."
        )


def _selection(read: Sequence[OpenedDataset]) -> Selection:
    begins = np.cumsum([0, *(one.manifest.documents for one in read)])
    runs = []
    documents: dict[SplitName, int] = dict.fromkeys(SPLITS, 0)
    utf8_bytes: dict[SplitName, int] = dict.fromkeys(SPLITS, 0)
    for name in SPLITS:
        for one, begin in zip(read, begins[:-1].tolist(), strict=True):
            split = one.manifest.splits.get(name)
            if split is not None:
                start = begin + split.first_document
                runs.append(np.arange(start, start + split.documents, dtype=np.int64))
                documents[name] += split.documents
                utf8_bytes[name] += split.utf8_bytes
    return Selection(np.concatenate(runs), documents, utf8_bytes)


def _sources(read: Sequence[OpenedDataset]) -> list[SourceRecord]:
    """All sources; those of one name are told apart by their dataset, and very many are one for each dataset."""
    if sum(len(one.manifest.sources) for one in read) > MAXIMUM_SOURCES:
        return [_one_source(one) for one in read]
    names = [source.name for one in read for source in one.manifest.sources]
    return [
        source if names.count(source.name) == 1 else replace(source, name=f"{one.prefix.name}/{source.name}")
        for one in read
        for source in one.manifest.sources
    ]


def _one_source(one: OpenedDataset) -> SourceRecord:
    dropped: dict[str, int] = {}
    changed: dict[str, int] = {}
    for source in one.manifest.sources:
        for total, counts in ((dropped, source.dropped), (changed, source.changed)):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
    manifest = one.manifest
    return SourceRecord(one.prefix.name, manifest.documents, manifest.tokens, manifest.utf8_bytes, dropped, changed)
