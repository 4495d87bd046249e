"""Which tokens make sample k of a run: a pure function of (seed, dataset, sequence length, k).

The N tokens of a split form a circle: after the last one comes the first again. An epoch cuts the circle, from a phase
p on, into ceil(N / S) pieces of S targets; piece j has the targets at positions p + j*S ... p + j*S + S - 1, each
predicted from the token before it. The last piece would go past its N-th target: what is beyond are repeats, masked
out. So every token of the split is a target exactly once an epoch; nothing is padded, nothing is left out. Phase and
order of the pieces change from epoch to epoch. docs/data_format.md works an example through.

Nothing is built at start-up and nothing is written: any sample of any epoch is computed when it is asked for, whoever
asks, so the samples do not depend on the number of ranks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_style_data.errors import BadDataError, SettingError
from megatron_style_data.indexed_dataset import IndexedDataset, Tokens, path_bin
from megatron_style_data.manifest import Manifest, SplitRecord, load_manifest
from megatron_style_data.permutation import BlockwisePermutation, Permutation, mix_64

# Tells the numbers that choose the phase from those that choose the order.
_ORDER, _PHASE = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples as arrays; n is the number of samples, S the sequence length.

    Attributes:
        tokens: (n, S+1) int64. Inputs are ``[:, :-1]``, targets ``[:, 1:]``.
        document_ids: (n, S+1) int64; 0 for the document a sample begins in, one more at each document start.
        position_ids: (n, S+1) int64; 0 at the sample's begin and at each document start.
        target_mask: (n, S) bool; False where a target is a repeat at the end of an epoch.
    """

    tokens: NDArray[np.int64]
    document_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    target_mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One pass over the split: where the cuts lie, and the order of the pieces (None: as they lie)."""

    phase: int
    order: BlockwisePermutation | None


def empty_batch(samples: int, sequence_length: int) -> Batch:
    """Room for a batch: `target_mask` all True, the rest not yet filled.

    The three large arrays are one allocation: given back and taken again at every batch, one of this size stays with
    the process where three would go back to the system, and half of the time would be spent on getting pages.
    """
    tokens, document_ids, position_ids = np.empty((3, samples, sequence_length + 1), np.int64)
    return Batch(tokens, document_ids, position_ids, np.ones((samples, sequence_length), np.bool_))


def number_documents(batch: Batch, starts: NDArray[np.int64]) -> None:
    """Fills `document_ids` and `position_ids`.

    Args:
        batch: Of n samples.
        starts: (starts,) where documents start, as row * (S + 1) + column. The beginning of a row counts
            for nothing: the document a sample begins in has number 0, wherever in it the sample begins.
    """
    rows, width = batch.tokens.shape
    row_starts = np.arange(rows) * width
    inside = starts[starts % width > 0]
    batch.document_ids.fill(0)
    batch.document_ids.reshape(-1)[inside] = 1
    np.cumsum(batch.document_ids, axis=1, out=batch.document_ids)
    # Running sums of ones, thrown back to zero wherever positions start again: one pass and no second array.
    zeros = np.unique(np.concatenate([row_starts, inside]))
    positions = batch.position_ids.reshape(-1)
    positions.fill(1)
    positions[zeros[:1]] = 0
    positions[zeros[1:]] -= np.diff(zeros)
    np.cumsum(positions, out=positions)


def open_split(prefix: str | Path, split: str) -> tuple[IndexedDataset, Manifest, SplitRecord]:
    """A finished dataset, its manifest and the record of one split; nothing is read but headers.

    Raises:
        MissingInputError: No finished dataset there.
        BadDataError: Files and manifest do not belong together, or the dataset has no such split.
    """
    manifest = load_manifest(prefix)
    dataset = IndexedDataset.open(prefix)
    found = (len(dataset.tokens), len(dataset), dataset.dtype)
    expected = (manifest.tokens, manifest.documents, manifest.dtype)
    if found != expected:
        raise BadDataError(
            f"{path_bin(prefix)}: holds {found[0]} tokens in {found[1]} documents of type {found[2]}, but its "
            f"manifest says {expected[0]} in {expected[1]} of type {expected[2]}; the files are not of one build, "
            "build the dataset again."
        )
    record = {str(name): part for name, part in manifest.splits.items()}.get(split)
    if record is None:
        there = ", ".join(manifest.splits)
        raise BadDataError(
            f"{prefix}: the dataset has no {split} split (it has: {there}); "
            f"build it with --{split}-fraction greater than 0."
        )
    return dataset, manifest, record


def check_sequence_length(sequence_length: int) -> None:
    """Holds that a sample has a target."""
    if sequence_length < 1:
        raise SettingError(f"sequence_length {sequence_length}: a sample needs at least one target.")


def checked_numbers(sample_ids: ArrayLike) -> NDArray[np.int64]:
    """Sample numbers as an array, none of them negative."""
    numbers = np.asarray(sample_ids, dtype=np.int64)
    if len(numbers) and numbers.min() < 0:
        raise IndexError(f"sample numbers start at 0, got {numbers.min()}")
    return numbers


class Samples:
    """The samples of one split. `Samples.open` makes one; opening costs the same for any size of dataset.

    Attributes:
        tokens: N, the tokens of the split.
        sequence_length: S.
        samples_per_epoch: ceil(N / S).
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        *,
        first_token: int,
        tokens: int,
        sequence_length: int,
        seed: int,
        shuffle: bool,
    ) -> None:
        check_sequence_length(sequence_length)
        self.tokens = tokens
        self.sequence_length = sequence_length
        self.samples_per_epoch = -(-tokens // sequence_length)
        self._dataset = dataset
        self._first_token = first_token
        self._ids: Tokens = dataset.tokens[first_token : first_token + tokens]
        self._seed = seed
        self._shuffle = shuffle
        self._document_starts: NDArray[np.int64] | None = None
        self._last_epoch: tuple[int, _Epoch] | None = None

    @classmethod
    def open(
        cls,
        prefix: str | Path,
        split: str = "train",
        *,
        sequence_length: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> "Samples":
        """The samples of one split of a finished dataset.

        Args:
            prefix: Path of the dataset without .bin, .idx, .meta.json.
            split: "train", "valid" or "test".
            sequence_length: S, targets a sample.
            seed: Chooses phases and orders.
            shuffle: False: phase 0 and pieces in the order of the text, the same in every epoch.

        Raises:
            MissingInputError: No finished dataset there.
            BadDataError: Files and manifest do not belong together, or the dataset has no such split.
            SettingError: sequence_length < 1.
        """
        dataset, _, record = open_split(prefix, split)
        return cls(
            dataset,
            first_token=record.first_token,
            tokens=record.tokens,
            sequence_length=sequence_length,
            seed=seed,
            shuffle=shuffle,
        )

    def batch(self, sample_ids: ArrayLike) -> Batch:
        """Samples by their number in the run.

        Args:
            sample_ids: (n,) integers >= 0; sample k lies in epoch ``k // samples_per_epoch``.
        """
        phases, pieces = self._pieces(checked_numbers(sample_ids))
        batch = empty_batch(len(pieces), self.sequence_length)
        targets_before = pieces * self.sequence_length
        starts = self._copy((phases + targets_before - 1) % self.tokens, batch.tokens.reshape(-1))
        number_documents(batch, starts)
        for row in np.flatnonzero(pieces == self.samples_per_epoch - 1).tolist():
            batch.target_mask[row, self.tokens - int(targets_before[row]) :] = False
        return batch

    def target_documents(self, sample_ids: ArrayLike) -> NDArray[np.int64]:
        """The documents that targets belong to, (n, S): numbers in the dataset. For splits that are evaluated on.

        Args:
            sample_ids: (n,) integers >= 0.
        """
        phases, pieces = self._pieces(checked_numbers(sample_ids))
        firsts = phases + pieces * self.sequence_length
        places = (firsts[:, None] + np.arange(self.sequence_length)) % self.tokens + self._first_token
        if self._document_starts is None:
            self._document_starts = self._dataset.starts_of(np.arange(len(self._dataset)))
        found: NDArray[np.int64] = np.searchsorted(self._document_starts, places, side="right") - 1
        return found

    def targets_in(self, first: int, count: int) -> int:
        """Number of unmasked targets in samples [first, first + count), in O(1)."""
        end = first + count
        cut = self._last_pieces_before(end) - self._last_pieces_before(first)
        return count * self.sequence_length - cut * (self.samples_per_epoch * self.sequence_length - self.tokens)

    def _last_pieces_before(self, sample: int) -> int:
        """How many samples before `sample` are the last piece of their epoch."""
        number, index = divmod(sample, self.samples_per_epoch)
        order = self._epoch(number).order
        last = self.samples_per_epoch - 1
        return number + int(index > (last if order is None else int(order.permutation.inverse(last))))

    def _epoch(self, number: int) -> _Epoch:
        if not self._shuffle:
            return _Epoch(0, None)
        known = self._last_epoch
        if known is None or known[0] != number:
            phase = mix_64(self._seed, number, _PHASE) % self.sequence_length
            order = Permutation(self.samples_per_epoch, mix_64(self._seed, number, _ORDER))
            known = self._last_epoch = (number, _Epoch(phase, BlockwisePermutation(order)))
        return known[1]

    def _pieces(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Phase and piece of each sample."""
        epochs, indices = np.divmod(numbers, self.samples_per_epoch)
        phases, pieces = np.empty_like(numbers), np.empty_like(numbers)
        for number in np.unique(epochs).tolist():
            epoch, chosen = self._epoch(number), epochs == number
            phases[chosen] = epoch.phase
            pieces[chosen] = indices[chosen] if epoch.order is None else epoch.order.forward(indices[chosen])
        return phases, pieces

    def _copy(self, positions: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Fills a batch with samples from these circle positions on, as often round as it takes.

        Args:
            positions: (n,) circle position of each sample's first token.
            places: (n * (S + 1),) tokens of the batch.

        Returns:
            Places where documents start.
        """
        starts, lows = self._spans(positions)
        stops = np.append(starts, len(places))[1:]
        ids = self._ids
        for start, stop, low in zip(starts.tolist(), stops.tolist(), lows.tolist(), strict=True):
            places[start:stop] = ids[low : low + stop - start]
        lows += self._first_token
        firsts, ends = self._dataset.documents_within(lows, lows + stops - starts)
        counts = ends - firsts
        documents = np.arange(counts.sum()) + np.repeat(ends - np.cumsum(counts), counts)
        found: NDArray[np.int64] = self._dataset.starts_of(documents) + np.repeat(starts - lows, counts)
        return found

    def _spans(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where stretches of the text begin in a batch, ascending, and the circle position of each stretch's begin."""
        width = self.sequence_length + 1
        starts = np.arange(len(positions)) * width
        rounds = []
        for row in np.flatnonzero(positions > self.tokens - width).tolist():
            start = row * width
            rounds.append(np.arange(start + self.tokens - int(positions[row]), start + width, self.tokens))
        if not rounds:
            return starts, positions
        starts = np.concatenate([starts, *rounds])
        lows = np.concatenate([positions, np.zeros(len(starts) - len(positions), np.int64)])
        order = np.argsort(starts)
        return starts[order], lows[order]
