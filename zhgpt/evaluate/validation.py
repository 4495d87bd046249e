"""Loss, perplexity and bits per byte on the held-out split; every rank takes its share."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from megatron_style_data.sample_source import SampleSource
from megatron_style_data.samples import Batch
from zhgpt.distributed.process_group import Ranks


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


def samples_of_each(samples_per_epoch: Sequence[int], asked: int | None) -> list[int]:
    """How many samples of each held-out split are evaluated: all, or their share of those asked for, at least one."""
    whole = sum(samples_per_epoch)
    if asked is None or asked >= whole:
        return list(samples_per_epoch)
    return [max(1, round(asked * size / whole)) for size in samples_per_epoch]


def validate(
    summed_nats: Callable[[Batch], torch.Tensor],
    samples: SampleSource,
    split_utf8_bytes: int,
    *,
    micro_batch_size: int,
    count: int,
    ranks: Ranks,
) -> Validation:
    """Runs the model over held-out samples.

    Args:
        summed_nats: forward of one batch, giving the sum of nats over its targets; ranks call it equally often, because
            ZeRO-3 gathers weights in it.
        samples: the held-out split; a fixed order.
        split_utf8_bytes: bytes of the whole split.
        micro_batch_size: sequences a forward.
        count: how many samples; with all of an epoch, every token is a target exactly once.
        ranks: all ranks.
    """
    width = micro_batch_size * ranks.world_size
    nats, targets = 0.0, 0
    for first in range(0, count, width):
        wanted = first + ranks.rank * micro_batch_size + np.arange(micro_batch_size, dtype=np.int64)
        batch = samples.batch(np.minimum(wanted, count - 1))
        batch.target_mask[wanted >= count] = False  # a repeat that only keeps the ranks in step
        nats += float(summed_nats(batch).double().item())
        targets += int(batch.target_mask.sum())
    total_nats, total_targets = ranks.sums([nats, targets])
    return Validation(total_nats, int(total_targets), split_utf8_bytes * total_targets / samples.tokens)
