"""Builds an indexed dataset from raw text: plan, encode unit by unit, split, write, measure, publish.

The output (.bin, .idx and .meta.json, byte for byte) depends on texts, order of the inputs, tokenizer and settings; not
on the number of workers, processes or machines, on interruptions, on time or on where it is built.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from megatron_style_data.atomic import atomic_write_bytes
from megatron_style_data.build_assembly import StoredTokens, TokenFiles, document_order, split_records, write_files
from megatron_style_data.build_folder import private_folder, shared_folder
from megatron_style_data.build_plan import Unit, unit_key
from megatron_style_data.build_preparation import Preparation, encoding_job, prepare, signature
from megatron_style_data.build_settings import BuildProgress, BuildResult, BuildSettings, Report, silent
from megatron_style_data.build_sources import Sources
from megatron_style_data.build_units import (
    RECORD,
    FinishedUnit,
    finished_unit,
    path_tokens,
    read_records,
    remove_unfinished,
)
from megatron_style_data.encoding_processes import encoding_crew
from megatron_style_data.entropy import measure_floor
from megatron_style_data.errors import SettingError, StorageError
from megatron_style_data.indexed_dataset import path_bin
from megatron_style_data.manifest import Manifest, manifest_bytes, path_manifest
from megatron_style_data.publish import ASIDE, publish
from megatron_style_data.readers import refuse_empty_corpus
from megatron_style_data.readers.bad_documents import refuse_too_many
from megatron_style_data.splits import assign_splits

_UNITS_NAMED = 5


def build(settings: BuildSettings, report: Report = silent) -> BuildResult:
    """Builds a dataset and publishes it.

    Raises:
        MissingInputError: An input or the tokenizer is not there.
        BadDataError: Input that cannot be read, an empty corpus, or nothing left to train on.
        SettingError: Fractions, workers, format or dtype that cannot be.
        StorageError: The output exists, is being built, or cannot be written.
    """
    preparation = prepare(settings)
    with private_folder(settings.output, settings.force) as folder:
        remove_unfinished(folder)
        work = _Work(settings, preparation, report)
        work.encode(folder, preparation.units)
        return work.assemble(folder)


def build_share(settings: BuildSettings, share: int, shares: int, report: Report = silent) -> int:
    """Encodes one share of the units of a build, for `assemble` to put together.

    Shares may run at the same time, in any order, more than once, and on any machines that see inputs and output.

    Args:
        settings: The whole build, the same for every share.
        share: Which one, from 1.
        shares: How many there are.
        report: Told how far the share is.

    Returns:
        Documents of the share.

    Raises:
        SettingError: No such share. Also what ``build`` raises.
    """
    if not 1 <= share <= shares:
        raise SettingError(f"share {share}/{shares}: expected a number from 1 to {shares}, such as 1/{max(1, shares)}.")
    preparation = prepare(settings)
    with shared_folder(settings.output, settings.force) as folder:
        work = _Work(settings, replace(preparation, estimated_bytes=preparation.estimated_bytes // shares), report)
        work.encode(folder, preparation.units[share - 1 :: shares])
        return work.documents


def assemble(settings: BuildSettings, report: Report = silent) -> BuildResult:
    """Puts the shares of a build together and publishes the dataset: the same bytes as ``build`` gives.

    Raises:
        StorageError: Units are missing, as shares have not run, or ran with other settings or other files.
            Also what ``build`` raises.
    """
    preparation = prepare(settings, encodes=False)
    with private_folder(settings.output, settings.force, keep=True) as folder:
        work = _Work(settings, preparation, report)
        work.take_finished(folder)
        return work.assemble(folder)


class _Work:
    """A build while it is done.

    Attributes:
        documents: Documents encoded so far.
    """

    def __init__(self, settings: BuildSettings, preparation: Preparation, report: Report) -> None:
        self._settings, self._preparation, self._report = settings, preparation, report
        self._finished: dict[int, FinishedUnit] = {}
        self._encoder = ""
        self.documents = self._utf8_bytes = 0
        self._resumed_documents = self._resumed_bytes = self._bad = 0

    def encode(self, folder: Path, units: Sequence[Unit]) -> None:
        """Brings `units` to the disk."""
        job = encoding_job(self._settings, self._preparation, folder)
        with encoding_crew(job, min(self._preparation.workers, len(units)), self._preparation.why_slow) as crew:
            self._encoder = crew.encoder
            self._tell("encoding")
            for number, step in crew.encode(units):
                self.documents += step.documents
                self._utf8_bytes += step.utf8_bytes
                if step.unit is not None:
                    self._finished[number] = step.unit.unit
                    self._refuse_too_many_bad(step.unit.unit)
                    if step.unit.resumed:
                        self._resumed_documents += step.unit.unit.documents
                        self._resumed_bytes += step.unit.unit.utf8_bytes
                self._tell("encoding")

    def _refuse_too_many_bad(self, unit: FinishedUnit) -> None:
        self._bad += sum(counters.bad for counters in unit.slice_counters)
        most = self._settings.read.max_bad
        if most is not None and self._bad > most:
            units = [unit for unit in self._preparation.units if unit.number in self._finished]
            finished = [self._finished[unit.number] for unit in units]
            refuse_too_many(Sources(self._preparation.files, units, finished).total(), self._settings.read)

    def take_finished(self, folder: Path) -> None:
        """Takes the units as they are on the disk."""
        units = self._preparation.units
        expected = signature(self._settings, self._preparation)
        missing = []
        for unit in units:
            found = finished_unit(folder, unit.number)
            if found is None or found.key != unit_key(unit, expected):
                missing.append(unit.number + 1)
            else:
                self._finished[unit.number] = found
                self._refuse_too_many_bad(found)
                self.documents += found.documents
                self._utf8_bytes += found.utf8_bytes
        if missing:
            named = ", ".join(map(str, missing[:_UNITS_NAMED])) + (" …" if len(missing) > _UNITS_NAMED else "")
            raise StorageError(
                f"{folder}: {len(missing)} of {len(units)} units are not there, or are of other settings or files "
                f"(units {named}); with n shares, unit u is in share (u - 1) mod n + 1. Run the missing shares with the "
                "settings of this command, then this one again; without --assemble it encodes them itself."
            )

    def assemble(self, folder: Path) -> BuildResult:
        """Writes, measures and publishes the dataset."""
        self._tell("writing")
        finished = [self._finished[unit.number] for unit in self._preparation.units]
        sources = Sources(self._preparation.files, self._preparation.units, finished)
        if self.documents == 0:
            refuse_empty_corpus(self._preparation.files, sources.total())
        manifest = self._write(folder, finished, sources)
        atomic_write_bytes(path_manifest(folder / ASIDE), manifest_bytes(manifest))
        publish(folder, self._settings.output)
        return BuildResult(
            manifest=manifest,
            counters=sources.total(),
            skipped_files=self._preparation.skipped,
            resumed_documents=self._resumed_documents,
            encoder=self._encoder,
        )

    def _write(self, folder: Path, finished: Sequence[FinishedUnit], sources: Sources) -> Manifest:
        """Writes .bin and .idx aside and describes them."""
        settings, tokenizer = self._settings, self._preparation.tokenizer
        records = np.empty(sum(unit.documents for unit in finished), RECORD)
        start = 0
        for number, unit in enumerate(finished):
            records[start : start + unit.documents] = read_records(folder, number, unit.documents)
            start += unit.documents
        lengths, utf8_bytes = records["length"].copy(), records["utf8_bytes"].copy()
        splits = assign_splits(
            records["hash"].copy(), sources.of_documents, settings.valid_fraction, settings.test_fraction
        )
        order = document_order(splits, settings.seed if settings.shuffle_documents else None)
        files = TokenFiles(
            paths=[path_tokens(folder, number) for number in range(len(finished))],
            tokens=[unit.tokens for unit in finished],
            dtype=self._preparation.dtype,
        )
        checksums = write_files(folder / ASIDE, files, lengths, order)
        ranges = split_records(lengths, utf8_bytes, splits)
        tokens = StoredTokens(path_bin(folder / ASIDE), files.dtype, sum(split.tokens for split in ranges.values()))
        self._tell("measuring")
        return Manifest(
            origin="built",
            tokenizer=tokenizer,
            dtype=files.dtype,
            documents=len(records),
            sequences=len(records),
            tokens=len(tokens),
            utf8_bytes=int(utf8_bytes.sum()),
            documents_without_end_of_text=0,
            checksums=checksums,
            splits=ranges,
            sources=sources.records(lengths, utf8_bytes),
            settings=settings.recorded(),
            floor=measure_floor(tokens, ranges, tokenizer.vocab_size),
        )

    def _tell(self, stage: str) -> None:
        self._report(
            BuildProgress(
                stage=stage,
                documents=self.documents,
                utf8_bytes=self._utf8_bytes,
                resumed_bytes=self._resumed_bytes,
                estimated_bytes=self._preparation.estimated_bytes,
                encoder=self._encoder,
            )
        )
