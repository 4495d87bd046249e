"""From sample numbers to tensors: which samples a rank takes in a micro-step, and what they look like on the device."""

from dataclasses import dataclass

import torch

from megatron_style_data.samples import Batch
from zhgpt.config.batch_plan import BatchPlan

NO_TARGET = -100


@dataclass(frozen=True)
class MicroBatch:
    """What the model's forward takes; all (B, S) int64.

    ``document_ids`` stay on the host: what the attention backend makes of them (starts of documents, a mask) is made there
    or sent on by it, so that no rank waits for its device to count documents.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    document_ids: torch.Tensor | None

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on another device; from pinned memory without waiting for the copy."""
        return MicroBatch(
            self.tokens.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            self.document_ids,
        )

    def pinned(self) -> "MicroBatch":
        """The same in page-locked memory, which a GPU reads by itself; needs one."""
        documents = self.document_ids
        return MicroBatch(
            self.tokens.pin_memory(),
            self.labels.pin_memory(),
            self.position_ids.pin_memory(),
            None if documents is None else documents.pin_memory(),
        )


def first_sample(plan: BatchPlan, step: int, micro_step: int, rank: int) -> int:
    """The first sample of one rank's micro-step. Which samples a step consumes does not depend on the world size.

    Args:
        plan: batch arithmetic of this run.
        step: 0-based.
        micro_step: 0-based within the step.
        rank: data-parallel rank.
    """
    per_micro_step = plan.micro_batch_size * plan.data_parallel_size
    return plan.samples_before(step) + micro_step * per_micro_step + rank * plan.micro_batch_size


def host_batch(
    batch: Batch, *, attend_across_documents: bool, row_length: int | None = None, pin_memory: bool = False
) -> MicroBatch:
    """Inputs and shifted labels of a batch of samples, on the host.

    Args:
        batch: (B, S+1) arrays from a :class:`megatron_style_data.sample_source.SampleSource`.
        attend_across_documents: one context for the whole sample, positions 0..S-1, instead of one a document.
        row_length: cut each sample into rows of this many tokens, a divisor of S; left out: one row a sample.
        pin_memory: in page-locked memory.
    """
    tokens = torch.from_numpy(batch.tokens)
    labels = tokens[:, 1:].masked_fill(~torch.from_numpy(batch.target_mask), NO_TARGET)
    inputs = tokens[:, :-1].contiguous()
    if attend_across_documents:
        positions = torch.arange(inputs.shape[1]).expand_as(inputs)
        documents = None
    else:
        positions = torch.from_numpy(batch.position_ids)[:, :-1]
        documents = torch.from_numpy(batch.document_ids)[:, :-1].contiguous()
    made = MicroBatch(inputs, labels.contiguous(), positions.contiguous(), documents)
    if row_length is not None and row_length < inputs.shape[1]:
        made = _cut(made, row_length)
    return made.pinned() if pin_memory else made


def _cut(batch: MicroBatch, row_length: int) -> MicroBatch:
    """The same tokens and targets in shorter rows: (B, S) becomes (B * S / row_length, row_length).

    A token's place in its context is the smaller of its place in the document and its place in the row.
    """
    documents = batch.document_ids
    positions = batch.position_ids.reshape(-1, row_length)
    return MicroBatch(
        batch.tokens.reshape(-1, row_length),
        batch.labels.reshape(-1, row_length),
        torch.minimum(positions, torch.arange(row_length)),
        None if documents is None else documents.reshape(-1, row_length),
    )


def to_device(batch: Batch, device: torch.device, *, attend_across_documents: bool) -> MicroBatch:
    """`host_batch` on the rank's device."""
    return host_batch(batch, attend_across_documents=attend_across_documents).to(device)
