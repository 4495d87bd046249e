"""Samples of best-fit packing: whole documents and rests that were put together at build time, read by their number.

A sample has S + 1 tokens: a context, and up to S targets. The context is the token before the first target if the
sample goes on in the middle of a document, else an end-of-text token, so that the first token of a document is a target
like any other. What stays empty is filled with end-of-text tokens, which are masked out. Every token of the split is a
target exactly once an epoch. The samples are the same in every epoch, their order is not.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_style_data.errors import BadDataError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.packing_file import Packing, open_packing, path_packing
from megatron_style_data.permutation import BlockwisePermutation, Permutation, mix_64
from megatron_style_data.samples import (
    Batch,
    check_sequence_length,
    checked_numbers,
    empty_batch,
    number_documents,
    open_split,
)

# Tells the order of packed samples from what else is drawn from a seed.
_ORDER = 3
_COUNTED_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Stretches of text of several samples, in their order.

    Attributes:
        rows: (pieces,) int64, the sample each belongs to, ascending.
        lows: (pieces,) int64, token position where each begins.
        lengths: (pieces,) int64, its tokens.
        at_start: (pieces,) bool, whether a document begins with it.
    """

    rows: NDArray[np.int64]
    lows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    at_start: NDArray[np.bool_]


class PackedSamples:
    """The samples of one split, best-fit packed. Opening maps the packing that `zhgpt data pack` made.

    Attributes:
        tokens: N, the tokens of the split, each of them a target once an epoch.
        sequence_length: S.
        samples_per_epoch: Full samples out of long documents, and bins.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        packing: Packing,
        *,
        first_document: int,
        end_of_text_id: int,
        seed: int,
        shuffle: bool,
    ) -> None:
        self.tokens = packing.tokens
        self.sequence_length = packing.sequence_length
        self.samples_per_epoch = packing.samples
        self._dataset = dataset
        self._packing = packing
        self._first_document = first_document
        self._end_of_text_id = end_of_text_id
        self._seed = seed
        self._shuffle = shuffle
        self._last_order: tuple[int, BlockwisePermutation] | None = None

    @classmethod
    def open(
        cls,
        prefix: str | Path,
        split: str = "train",
        *,
        sequence_length: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> "PackedSamples":
        """The packed samples of one split of a finished dataset.

        Args:
            prefix: Path of the dataset without .bin, .idx, .meta.json.
            split: "train", "valid" or "test".
            sequence_length: S, targets a sample.
            seed: Chooses the orders.
            shuffle: False: in the order of the packing, the same in every epoch.

        Raises:
            MissingInputError: No finished dataset there, or it is not packed for this sequence length.
            BadDataError: Files do not belong together or are damaged.
            SettingError: sequence_length < 1.
        """
        check_sequence_length(sequence_length)
        dataset, manifest, record = open_split(prefix, split)
        packing = open_packing(prefix, split, sequence_length, manifest.fingerprint)
        if (packing.documents, packing.tokens) != (record.documents, record.tokens):
            raise BadDataError(
                f"{path_packing(prefix, split, sequence_length)}: packs {packing.tokens} tokens in {packing.documents} "
                f"documents, but the {split} split has {record.tokens} in {record.documents}; pack again with --force."
            )
        return cls(
            dataset,
            packing,
            first_document=record.first_document,
            end_of_text_id=manifest.tokenizer.end_of_text_id,
            seed=seed,
            shuffle=shuffle,
        )

    def batch(self, sample_ids: ArrayLike) -> Batch:
        """Samples by their number in the run.

        Args:
            sample_ids: (n,) integers >= 0; sample k lies in epoch ``k // samples_per_epoch``.
        """
        chosen = self._chosen(checked_numbers(sample_ids))
        batch = empty_batch(len(chosen), self.sequence_length)
        pieces = self._pieces(chosen)
        width = self.sequence_length + 1
        firsts = np.diff(pieces.rows, prepend=-1) != 0
        before = np.cumsum(pieces.lengths) - pieces.lengths
        places = pieces.rows * width + 1 + before - before[firsts][pieces.rows]
        starts = places[pieces.at_start | ~firsts]
        # The first piece of a sample that goes on in a document takes the token before it along, as its context.
        shift = (firsts & ~pieces.at_start).astype(np.int64)
        flat, ids = batch.tokens.reshape(-1), self._dataset.tokens
        flat[::width] = self._end_of_text_id
        copied = zip(
            (places - shift).tolist(), (pieces.lows - shift).tolist(), (pieces.lengths + shift).tolist(), strict=True
        )
        for place, low, length in copied:
            flat[place : place + length] = ids[low : low + length]
        padding = self._padding(chosen)
        padded = np.flatnonzero(padding)
        for row, empty in zip(padded.tolist(), padding[padded].tolist(), strict=True):
            batch.tokens[row, width - empty :] = self._end_of_text_id
            batch.target_mask[row, width - 1 - empty :] = False
        number_documents(batch, np.concatenate([starts, padded * width + width - padding[padded]]))
        return batch

    def targets_in(self, first: int, count: int) -> int:
        """Number of unmasked targets in samples [first, first + count).

        Whole epochs are counted in O(1), the rest at 0.5 us a sample: the fewer of those asked for and those left out.
        """
        (epoch, start), (last_epoch, end) = (divmod(at, self.samples_per_epoch) for at in (first, first + count))
        if epoch == last_epoch:
            return self._targets_within(epoch, start, end)
        whole = (last_epoch - epoch - 1) * self.tokens
        begun = self._targets_within(epoch, start, self.samples_per_epoch)
        return begun + whole + self._targets_within(last_epoch, 0, end)

    def _targets_within(self, epoch: int, start: int, end: int) -> int:
        """Targets of samples [start, end) of one epoch."""
        if 2 * (end - start) > self.samples_per_epoch:
            left_out = self._targets_within(epoch, 0, start) + self._targets_within(epoch, end, self.samples_per_epoch)
            return self.tokens - left_out
        targets = (end - start) * self.sequence_length
        origin = epoch * self.samples_per_epoch
        for at in range(start, end, _COUNTED_AT_ONCE):
            numbers = np.arange(at, min(at + _COUNTED_AT_ONCE, end)) + origin
            targets -= int(self._padding(self._chosen(numbers)).sum())
        return targets

    def _chosen(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number within the packing of each sample of the run."""
        epochs, indices = np.divmod(numbers, self.samples_per_epoch)
        if not self._shuffle:
            return indices
        for number in np.unique(epochs).tolist():
            chosen = epochs == number
            indices[chosen] = self._order(number).forward(indices[chosen])
        return indices

    def _order(self, epoch: int) -> BlockwisePermutation:
        known = self._last_order
        if known is None or known[0] != epoch:
            order = Permutation(self.samples_per_epoch, mix_64(self._seed, epoch, _ORDER))
            known = self._last_order = (epoch, BlockwisePermutation(order))
        return known[1]

    def _padding(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places left empty in each of these samples of the packing."""
        bins = chosen - self._packing.full_samples
        rooms: NDArray[np.int64] = np.searchsorted(self._packing.by_room, bins, side="right")
        return rooms

    def _pieces(self, chosen: NDArray[np.int64]) -> _Pieces:
        """What these samples of the packing are made of."""
        packing, length = self._packing, self.sequence_length
        full = chosen < packing.full_samples
        bins = chosen[~full] - packing.full_samples
        counts = np.ones(len(chosen), np.int64)
        counts[~full] = packing.bin_starts[bins + 1] - packing.bin_starts[bins]
        rows = np.repeat(np.arange(len(chosen)), counts)
        in_full = full[rows]
        codes = np.empty(len(rows), np.int64)
        long = np.searchsorted(packing.full_ends, chosen[full], side="right")
        codes[in_full] = packing.long_codes[long]
        ends = np.cumsum(counts[~full])
        codes[~in_full] = packing.piece_codes[
            np.arange(len(rows) - full.sum()) + np.repeat(packing.bin_starts[bins + 1] - ends, counts[~full])
        ]
        documents, heads = (codes >> 1) + self._first_document, codes & 1
        starts, stops = self._dataset.starts_of(documents), self._dataset.starts_of(documents + 1)
        rests = (stops - starts) % length
        lows = np.where(heads == 1, starts, stops - rests)
        # Full samples are counted from the last one of their document backwards.
        after = packing.full_ends[long] - chosen[full]
        lows[in_full] = stops[in_full] - (1 - heads[in_full]) * rests[in_full] - after * length
        return _Pieces(rows, lows, np.where(in_full, length, rests), lows == starts)
