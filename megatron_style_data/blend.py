"""Several sources of samples read as one, in exact proportions that may change on the way.

`BlendSchedule` says which source gives sample k and where in that source it stands; a source is asked for its own
sample of that number, so it runs through its own epochs, each sample once an epoch, however the weights change.
docs/blends.md works an example through.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_style_data.blend_schedule import BlendSchedule
from megatron_style_data.errors import SettingError
from megatron_style_data.sample_source import SampleSource
from megatron_style_data.samples import Batch, empty_batch


class Blend:
    """A SampleSource made of others.

    Attributes:
        sources: Of one sequence length, in the schedule's order.
        schedule: Which of them gives which sample.
    """

    def __init__(self, sources: Sequence[SampleSource], schedule: BlendSchedule) -> None:
        """Puts the sources under a schedule.

        Raises:
            SettingError: Their number is not the schedule's, or their sequence lengths differ.
        """
        if len(sources) != schedule.sources:
            raise SettingError(f"a blend of {len(sources)} sources has weights for {schedule.sources}; give one each.")
        lengths = sorted({source.sequence_length for source in sources})
        if len(lengths) > 1:
            raise SettingError(
                f"sources of a blend have sequence lengths {lengths[0]} and {lengths[-1]}; open all with one."
            )
        self.sources = tuple(sources)
        self.schedule = schedule

    @property
    def tokens(self) -> int:
        """Targets of one epoch of every source."""
        return sum(source.tokens for source in self.sources)

    @property
    def sequence_length(self) -> int:
        """S."""
        return self.sources[0].sequence_length

    @property
    def samples_per_epoch(self) -> int:
        """Samples of one epoch of every source; where in its epoch a source stands, its own cursor says."""
        return sum(source.samples_per_epoch for source in self.sources)

    def batch(self, sample_ids: ArrayLike) -> Batch:
        """Samples by their number in the run, (n,) integers >= 0 in any order."""
        numbers, cursors = self.schedule.locate(sample_ids)
        wanted: list[int] = np.unique(numbers).tolist()
        if len(wanted) == 1:
            return self.sources[wanted[0]].batch(cursors)
        places = [np.flatnonzero(numbers == source) for source in wanted]
        return _joined(places, [self.sources[s].batch(cursors[rows]) for s, rows in zip(wanted, places, strict=True)])

    def targets_in(self, first: int, count: int) -> int:
        """Unmasked targets in samples [first, first + count), without reading them."""
        before, after = self.schedule.counts_before(first), self.schedule.counts_before(first + count)
        spans = zip(self.sources, before, after, strict=True)
        return sum(source.targets_in(start, end - start) for source, start, end in spans if end > start)


def _joined(places: Sequence[NDArray[np.intp]], parts: Sequence[Batch]) -> Batch:
    """One batch whose rows `places[i]` are those of `parts[i]`."""
    whole = empty_batch(sum(map(len, places)), parts[0].target_mask.shape[1])
    for name in [field.name for field in fields(Batch)]:
        for rows, part in zip(places, parts, strict=True):
            getattr(whole, name)[rows] = getattr(part, name)
    return whole
