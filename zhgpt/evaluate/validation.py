"""Loss, perplexity and bits per byte on held-out text, of all of it and of each document; every rank takes its share."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from megatron_style_data.samples import Batch, Samples
from zhgpt.distributed.process_group import Ranks


@dataclass(frozen=True)
class DocumentCosts:
    """What each document of a split costs, as far as its tokens were evaluated.

    Attributes:
        documents: (n,) int64, numbers in the dataset, ascending.
        nats: (n,) float64, sums over the document's targets.
        targets: (n,) int64.
    """

    documents: NDArray[np.int64]
    nats: NDArray[np.float64]
    targets: NDArray[np.int64]

    @classmethod
    def of_targets(
        cls, documents: NDArray[np.int64], nats: NDArray[np.float64], targets: NDArray[np.int64]
    ) -> "DocumentCosts":
        """Sums by document; the three are alike in length, and a document may stand in them more than once."""
        numbers, place = np.unique(documents, return_inverse=True)
        counted = np.bincount(place, weights=targets, minlength=len(numbers)).astype(np.int64)
        summed = np.bincount(place, weights=nats, minlength=len(numbers)).astype(np.float64)
        kept = counted > 0
        return cls(numbers[kept], summed[kept], counted[kept])

    @classmethod
    def of_all(cls, parts: "Sequence[DocumentCosts]") -> "DocumentCosts":
        """What several ranks or batches saw of the same split."""
        return cls.of_targets(
            np.concatenate([part.documents for part in parts]),
            np.concatenate([part.nats for part in parts]),
            np.concatenate([part.targets for part in parts]),
        )


@dataclass(frozen=True)
class Validation:
    """What the held-out text costs."""

    nats: float
    targets: int
    utf8_bytes: float
    """Bytes of the text behind the targets; exact for the whole split, else in proportion to the tokens."""

    @classmethod
    def of_all(cls, parts: "Iterable[Validation]") -> "Validation":
        """Several held-out texts as one: every target counts the same."""
        every = list(parts)
        return cls(
            sum(part.nats for part in every),
            sum(part.targets for part in every),
            sum(part.utf8_bytes for part in every),
        )

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.targets

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is too large for a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Nats / ln 2 per UTF-8 byte: comparable across tokenizers."""
        return self.nats / math.log(2) / self.utf8_bytes


@dataclass
class _Seen:
    """What this rank has evaluated so far."""

    nats: float = 0.0
    targets: int = 0
    by_document: list[DocumentCosts] = field(default_factory=list)

    def add(self, nats: torch.Tensor, batch: Batch, documents: NDArray[np.int64] | None) -> None:
        self.nats += float(nats.double().sum().item())
        self.targets += int(batch.target_mask.sum())
        if documents is not None:
            each = nats.double().cpu().numpy().ravel()
            mask = batch.target_mask.ravel().astype(np.int64)
            self.by_document.append(DocumentCosts.of_targets(documents.ravel(), each, mask))


def samples_of_each(samples_per_epoch: Sequence[int], asked: int | None) -> list[int]:
    """How many samples of each held-out split are evaluated: all, or their share of those asked for, at least one."""
    whole = sum(samples_per_epoch)
    if asked is None or asked >= whole:
        return list(samples_per_epoch)
    return [max(1, round(asked * size / whole)) for size in samples_per_epoch]


def validate(
    target_nats: Callable[[Batch], torch.Tensor],
    samples: Samples,
    split_utf8_bytes: int,
    *,
    micro_batch_size: int,
    count: int,
    ranks: Ranks,
    by_document: bool = False,
) -> tuple[Validation, DocumentCosts | None]:
    """Runs the model over held-out samples.

    Args:
        target_nats: forward of one batch, giving the nats of each target, (n, S) fp32, 0 where the mask is False; ranks call
            it equally often, because ZeRO-3 gathers weights in it.
        samples: the held-out split; a fixed order.
        split_utf8_bytes: bytes of the whole split.
        micro_batch_size: sequences a forward.
        count: how many samples; with all of an epoch, every token is a target exactly once.
        ranks: all ranks.
        by_document: whether to count the costs of each document, too.
    """
    width = micro_batch_size * ranks.world_size
    seen = _Seen()
    for first in range(0, count, width):
        wanted = first + ranks.rank * micro_batch_size + np.arange(micro_batch_size, dtype=np.int64)
        chosen = np.minimum(wanted, count - 1)
        batch = samples.batch(chosen)
        batch.target_mask[wanted >= count] = False  # a repeat that only keeps the ranks in step
        seen.add(target_nats(batch), batch, samples.target_documents(chosen) if by_document else None)
    nats, targets = ranks.sums([seen.nats, seen.targets])
    whole = Validation(nats, int(targets), split_utf8_bytes * targets / samples.tokens)
    if not by_document:
        return whole, None
    return whole, DocumentCosts.of_all([part for parts in ranks.gather(seen.by_document) for part in parts])
