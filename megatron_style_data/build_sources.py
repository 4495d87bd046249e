"""The sources of a corpus: what was read, changed and dropped in each while it was built."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from megatron_style_data.build_plan import Slice, Unit
from megatron_style_data.build_units import FinishedUnit
from megatron_style_data.encoding_units import place_in_whole_file
from megatron_style_data.manifest import SourceRecord
from megatron_style_data.readers import InputFile, ReadCounters
from megatron_style_data.readers.counters import FIRST_PLACES
from megatron_style_data.readers.source_names import source_names


class Sources:
    """Names and counters of the sources of a corpus.

    Attributes:
        names: In the order of their first file.
        counters: What was read, changed and dropped in each, places in whole files.
        of_documents: (documents,) number of the source of each document, in input order.
    """

    def __init__(self, files: Sequence[InputFile], units: Sequence[Unit], finished: Sequence[FinishedUnit]) -> None:
        """Adds up what was counted while `units` were encoded."""
        of_file = source_names(files)
        self.names = list(dict.fromkeys(of_file))
        numbers = {name: number for number, name in enumerate(self.names)}
        self.counters = [ReadCounters() for _ in self.names]
        runs: list[tuple[int, int]] = []
        for piece, documents, counters in _slices(units, finished):
            number = numbers[of_file[piece.index]]
            _add(self.counters[number], counters, piece)
            runs.append((number, documents))
        self.of_documents = np.repeat(
            np.array([number for number, _ in runs], np.int32), [documents for _, documents in runs]
        )

    def total(self) -> ReadCounters:
        """The counters of all sources together."""
        total = ReadCounters()
        for counters in self.counters:
            total.add(counters)
        return total

    def records(self, lengths: NDArray[np.int32], utf8_bytes: NDArray[np.int64]) -> list[SourceRecord]:
        """The manifest's record of each source.

        Args:
            lengths: (documents,) tokens of each document.
            utf8_bytes: (documents,) bytes of each text.
        """
        number = len(self.names)
        documents = np.bincount(self.of_documents, minlength=number)
        # Sums of integers below 2**53 are exact in the floats that bincount adds in.
        tokens = np.bincount(self.of_documents, lengths, minlength=number)
        size = np.bincount(self.of_documents, utf8_bytes, minlength=number)
        return [
            SourceRecord(
                name=name,
                documents=int(documents[source]),
                tokens=int(tokens[source]),
                utf8_bytes=int(size[source]),
                dropped=dict(sorted(self.counters[source].dropped.items())),
                changed=dict(sorted(self.counters[source].changes.items())),
            )
            for source, name in enumerate(self.names)
        ]


def _slices(units: Sequence[Unit], finished: Sequence[FinishedUnit]) -> Iterator[tuple[Slice, int, ReadCounters]]:
    for unit, done in zip(units, finished, strict=True):
        yield from zip(unit.slices, done.slice_documents, done.slice_counters, strict=True)


def _add(total: ReadCounters, counters: ReadCounters, piece: Slice) -> None:
    """Adds the counters of a slice; lines are counted in the whole file only for the places that are kept."""
    places = {
        reason: [
            place_in_whole_file(place, piece)
            for place in found[: max(0, FIRST_PLACES - len(total.first_places.get(reason, [])))]
        ]
        for reason, found in counters.first_places.items()
    }
    total.add(replace(counters, first_places=places))
