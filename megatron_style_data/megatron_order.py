"""Megatron-LM's order: the document, sample and shuffle indices of its GPTDataset, bit for bit, and samples by them.

For those who compare a run with one of Megatron-LM (core 0.16, ``megatron/core/datasets/gpt_dataset.py``; one extra
token a sample, as it is by default). The indices depend on the number of samples of the whole run and are made anew at
every start, in memory; nothing is written. ``docs/data_format.md`` describes them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from megatron_style_data.errors import SettingError
from megatron_style_data.indexed_dataset import IndexedDataset
from megatron_style_data.samples import (
    Batch,
    check_sequence_length,
    checked_numbers,
    empty_batch,
    number_documents,
    open_split,
)

# The last epoch is shuffled apart from the others if less than this share of it is used.
_SEPARATE_BELOW = 0.80
_CHUNK_DOCUMENTS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class MegatronIndices:
    """What Megatron keeps in three .npy files. A document is a sequence of the .idx file.

    Attributes:
        document_index: (epochs * documents,) int32, documents in the order they are read.
        sample_index: (samples + 1, 2) int32 (int64 where that is too small), place in `document_index` and offset in
            that document at which each sample begins; a sample ends with the first token of the next one.
        shuffle_index: (samples,) uint32 (int64 from 2**32 on), the sample that is read at each place of the run.
    """

    document_index: NDArray[np.int32]
    sample_index: NDArray[np.signedinteger[Any]]
    shuffle_index: NDArray[np.integer[Any]]


def megatron_indices(
    lengths: NDArray[np.int32], first: int, count: int, *, total_samples: int | None, sequence_length: int, seed: int
) -> MegatronIndices:
    """The three indices of a run over the documents [first, first + count).

    Args:
        lengths: (documents of the dataset,) tokens of each.
        first: First document of the split.
        count: Its documents.
        total_samples: Samples of the run; None: one epoch.
        sequence_length: S.
        seed: `--seed` of Megatron.
    """
    tokens = int(lengths[first : first + count].sum(dtype=np.int64))
    epochs = 1 if total_samples is None else max(1, -(-(total_samples * sequence_length + 1) // tokens))
    samples = (epochs * tokens - 1) // sequence_length
    before_last = ((epochs - 1) * tokens - 1) // sequence_length
    separate = (
        epochs > 1
        and total_samples is not None
        and total_samples - before_last < int(_SEPARATE_BELOW * ((tokens - 1) // sequence_length))
    )
    random = np.random.RandomState(seed)
    documents = np.arange(first, first + count, dtype=np.int32)
    document_index = _shuffled_parts([np.tile(documents, epochs - separate), documents[: count * separate]], random)
    sample_index = _sample_index(lengths, document_index, samples, sequence_length)
    number = np.int64 if samples >= np.iinfo(np.uint32).max - 1 else np.uint32
    cut = before_last if separate else samples
    shuffle_index = _shuffled_parts([np.arange(cut, dtype=number), np.arange(cut, samples, dtype=number)], random)
    return MegatronIndices(document_index, sample_index, shuffle_index)


def _shuffled_parts(parts: list[NDArray[Any]], random: np.random.RandomState) -> NDArray[Any]:
    """Each part shuffled for itself, in their order; an empty one draws no random numbers."""
    shuffled = [part.copy() for part in parts if len(part)]
    for part in shuffled:
        random.shuffle(part)
    return np.concatenate(shuffled) if shuffled else parts[0]


def _sample_index(
    lengths: NDArray[np.int32], document_index: NDArray[np.int32], samples: int, sequence_length: int
) -> NDArray[np.signedinteger[Any]]:
    """Where each sample begins: sample j with token j * S of the documents laid end to end."""
    largest = max(len(document_index), int(lengths.max(initial=0)))
    index = np.zeros((samples + 1, 2), np.int32 if largest <= np.iinfo(np.int32).max else np.int64)
    before, done = 0, 0
    for start in range(0, len(document_index), _CHUNK_DOCUMENTS):
        sizes = lengths[document_index[start : start + _CHUNK_DOCUMENTS]]
        ends = np.cumsum(sizes, dtype=np.int64) + before
        reached = min(samples + 1, -(-int(ends[-1]) // sequence_length))
        tokens = np.arange(done, reached, dtype=np.int64) * sequence_length
        places = np.searchsorted(ends, tokens, side="right")
        index[done:reached, 0] = places + start
        index[done:reached, 1] = tokens - (ends[places] - sizes[places])
        before, done = int(ends[-1]), reached
    index[0] = 0  # also where the first documents are empty
    return index


class MegatronSamples:
    """The samples of a run in Megatron's order. An epoch is not a whole number of samples in it, and tokens left at the
    end of the run's last epoch, or beyond `total_samples`, are not read: "once an epoch" holds only on the whole.

    Attributes:
        tokens: N, the tokens of the split.
        sequence_length: S.
        samples_per_epoch: ceil(N / S), after which about one epoch is read.
        indices: Megatron's three.
    """

    def __init__(
        self,
        dataset: IndexedDataset,
        *,
        first_document: int,
        documents: int,
        sequence_length: int,
        seed: int,
        total_samples: int | None,
    ) -> None:
        check_sequence_length(sequence_length)
        if total_samples is not None and total_samples < 1:
            raise SettingError(f"total_samples {total_samples}: Megatron's order needs a run of at least one sample.")
        if not 0 <= seed < 1 << 32:
            raise SettingError(f"seed {seed}: Megatron's order takes seeds from 0 to 4294967295.")
        first, end = dataset.document_indices[[first_document, first_document + documents]].tolist()
        self.sequence_length = sequence_length
        self.tokens = int(dataset.sequence_lengths[first:end].sum(dtype=np.int64))
        self.samples_per_epoch = -(-self.tokens // sequence_length)
        self.indices = megatron_indices(
            dataset.sequence_lengths,
            first,
            end - first,
            total_samples=total_samples,
            sequence_length=sequence_length,
            seed=seed,
        )
        self._dataset = dataset

    @classmethod
    def open(
        cls, prefix: str | Path, split: str = "train", *, sequence_length: int, seed: int, total_samples: int | None
    ) -> "MegatronSamples":
        """The samples of one split of a finished dataset, in Megatron's order.

        Args:
            prefix: Path of the dataset without .bin, .idx, .meta.json.
            split: "train", "valid" or "test".
            sequence_length: S.
            seed: As in Megatron.
            total_samples: Samples of the whole run, as Megatron is asked for them; None: one epoch.

        Raises:
            MissingInputError: No finished dataset there.
            BadDataError: Files and manifest do not belong together, or the dataset has no such split.
            SettingError: A number out of range.
        """
        dataset, _, record = open_split(prefix, split)
        return cls(
            dataset,
            first_document=record.first_document,
            documents=record.documents,
            sequence_length=sequence_length,
            seed=seed,
            total_samples=total_samples,
        )

    def __len__(self) -> int:
        """Samples there are: as many as were asked for, and the rest of the last epoch."""
        return len(self.indices.shuffle_index)

    def batch(self, sample_ids: ArrayLike) -> Batch:
        """Samples by their number in the run, (n,) integers in [0, len(self)).

        Raises:
            SettingError: A number the order was not made for.
        """
        numbers = checked_numbers(sample_ids)
        if len(numbers) and numbers.max() >= len(self):
            raise SettingError(
                f"sample {numbers.max()} is asked for, but Megatron's order was made for a run of {len(self)} samples; "
                "it depends on the whole number, so give a larger total_samples from the start."
            )
        batch = empty_batch(len(numbers), self.sequence_length)
        places = batch.tokens.reshape(-1)
        chosen = self.indices.shuffle_index[numbers].astype(np.int64)
        bounds = self.indices.sample_index[chosen], self.indices.sample_index[chosen + 1]
        starts, place = [], 0
        for (document, offset), (last, last_offset) in zip(*(bound.tolist() for bound in bounds), strict=True):
            sequences = self.indices.document_index[document : last + 1]
            lows = self._dataset.sequence_pointers[sequences] // self._dataset.tokens.itemsize
            highs = lows + self._dataset.sequence_lengths[sequences]
            highs[-1] = lows[-1] + last_offset + 1
            lows[0] += offset
            for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
                starts.append(place)
                places[place : place + high - low] = self._dataset.tokens[low:high]
                place += high - low
        number_documents(batch, np.array(starts, np.int64))
        return batch

    def targets_in(self, first: int, count: int) -> int:
        """Targets in samples [first, first + count): all of them, nothing is masked."""
        return count * self.sequence_length
