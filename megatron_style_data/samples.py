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
from megatron_style_data.manifest import load_manifest
from megatron_style_data.permutation import Permutation, mix_64

# Tells the numbers that choose the phase from those that choose the order.
_ORDER, _PHASE = 1, 2
# Sample numbers are permuted in blocks of this size: 0.4 us a number instead of 80 us for one alone.
_BLOCK_SAMPLES = 1024


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

    number: int
    phase: int
    order: Permutation | None


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
        if sequence_length < 1:
            raise SettingError(f"sequence_length {sequence_length}: a sample needs at least one target.")
        self.tokens = tokens
        self.sequence_length = sequence_length
        self.samples_per_epoch = -(-tokens // sequence_length)
        self._dataset = dataset
        self._first_token = first_token
        self._ids: Tokens = dataset.tokens[first_token : first_token + tokens]
        self._seed = seed
        self._shuffle = shuffle
        self._block: tuple[tuple[int, int], NDArray[np.int64]] | None = None

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
        numbers = np.asarray(sample_ids, dtype=np.int64)
        width = self.sequence_length + 1
        tokens = np.empty((len(numbers), width), np.int64)
        starts = np.zeros((len(numbers), width), np.bool_)
        target_mask = np.ones((len(numbers), self.sequence_length), np.bool_)
        for row, (phase, piece) in enumerate(self._pieces(numbers)):
            targets_before = piece * self.sequence_length
            self._fill(tokens[row], starts[row], (phase + targets_before - 1) % self.tokens)
            target_mask[row, self.tokens - targets_before :] = False
        starts[:, 0] = False  # the document a sample begins in has number 0, wherever in it the sample begins
        columns = np.arange(width)
        return Batch(
            tokens=tokens,
            document_ids=np.cumsum(starts, axis=1, dtype=np.int64),
            position_ids=columns - np.maximum.accumulate(np.where(starts, columns, 0), axis=1),
            target_mask=target_mask,
        )

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
        return number + int(index > (last if order is None else int(order.inverse(last))))

    def _epoch(self, number: int) -> _Epoch:
        if not self._shuffle:
            return _Epoch(number, 0, None)
        phase = mix_64(self._seed, number, _PHASE) % self.sequence_length
        return _Epoch(number, phase, Permutation(self.samples_per_epoch, mix_64(self._seed, number, _ORDER)))

    def _pieces(self, numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Phase and piece of each sample."""
        if len(numbers) and numbers.min() < 0:
            raise IndexError(f"sample numbers start at 0, got {numbers.min()}")
        pieces = []
        epoch: _Epoch | None = None
        for sample in numbers.tolist():
            number, index = divmod(sample, self.samples_per_epoch)
            if epoch is None or epoch.number != number:
                epoch = self._epoch(number)
            pieces.append(
                (epoch.phase, index if epoch.order is None else self._permuted(epoch.number, epoch.order, index))
            )
        return pieces

    def _permuted(self, number: int, order: Permutation, index: int) -> int:
        """`order.forward(index)`, from the last block of results where it is in there."""
        block, offset = divmod(index, _BLOCK_SAMPLES)
        known = self._block
        if known is None or known[0] != (number, block):
            first = block * _BLOCK_SAMPLES
            end = min(first + _BLOCK_SAMPLES, self.samples_per_epoch)
            known = ((number, block), order.forward(np.arange(first, end)))
            self._block = known
        return int(known[1][offset])

    def _fill(self, tokens: NDArray[np.int64], starts: NDArray[np.bool_], position: int) -> None:
        """One sample from circle position `position` on, as often round as it takes; marks document starts."""
        filled, width = 0, len(tokens)
        while filled < width:
            taken = min(width - filled, self.tokens - position)
            tokens[filled : filled + taken] = self._ids[position : position + taken]
            low = self._first_token + position
            first = self._dataset.first_document_from(low)
            end = self._dataset.first_document_from(low + taken)
            starts[filled + self._dataset.document_starts(first, end) - low] = True
            filled, position = filled + taken, 0
