"""From sample numbers to tensors: which samples a rank takes in a micro-step, and what they look like on the device."""

from dataclasses import dataclass

import numpy as np
import torch

from megatron_style_data.samples import Batch, Samples
from zhgpt.config.batch_plan import BatchPlan

NO_TARGET = -100


@dataclass(frozen=True)
class MicroBatch:
    """What the model's forward takes; all (B, S) int64 on the rank's device."""

    tokens: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    document_ids: torch.Tensor | None


def first_sample(plan: BatchPlan, step: int, micro_step: int, rank: int) -> int:
    """The first sample of one rank's micro-step. Step n consumes samples [n*G, (n+1)*G) whatever the world size.

    Args:
        plan: batch arithmetic of this run.
        step: 0-based.
        micro_step: 0-based within the step.
        rank: data-parallel rank.
    """
    per_micro_step = plan.micro_batch_size * plan.data_parallel_size
    return step * plan.global_batch_size + micro_step * per_micro_step + rank * plan.micro_batch_size


def to_device(batch: Batch, device: torch.device, *, attend_across_documents: bool) -> MicroBatch:
    """Inputs and shifted labels of a batch of samples.

    Args:
        batch: (B, S+1) arrays from :class:`megatron_style_data.samples.Samples`.
        device: the rank's device.
        attend_across_documents: one context for the whole sample, positions 0..S-1, instead of one a document.
    """
    tokens = torch.from_numpy(batch.tokens)
    labels = tokens[:, 1:].masked_fill(~torch.from_numpy(batch.target_mask), NO_TARGET)
    inputs = tokens[:, :-1]
    if attend_across_documents:
        positions = torch.arange(inputs.shape[1]).expand_as(inputs)
        documents = None
    else:
        positions = torch.from_numpy(batch.position_ids)[:, :-1]
        documents = torch.from_numpy(batch.document_ids)[:, :-1].contiguous().to(device, non_blocking=True)
    return MicroBatch(
        inputs.contiguous().to(device, non_blocking=True),
        labels.contiguous().to(device, non_blocking=True),
        positions.contiguous().to(device, non_blocking=True),
        documents,
    )


def micro_batch(samples: Samples, plan: BatchPlan, step: int, micro_step: int, rank: int) -> Batch:
    """The samples one rank takes in one micro-step."""
    first = first_sample(plan, step, micro_step, rank)
    return samples.batch(np.arange(first, first + plan.micro_batch_size, dtype=np.int64))
