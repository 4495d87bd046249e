"""The output end of the model: from hidden states to logits or to the loss, with a tied or its own table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from zhgpt.model.layers import Linear, Table
from zhgpt.model.loss import linear_cross_entropy, target_nats


@dataclass(frozen=True)
class HeadTask:
    """What the head gives: the loss of ``labels`` (B, S), of all or each, or without them logits cut to ``vocab_size``."""

    vocab_size: int
    labels: Tensor | None
    each_target: bool = False


def apply_head(hidden: Tensor, weight: Tensor, task: HeadTask) -> Tensor:
    """Return the sum of nats (fp32 scalar), those of each target (B, S) fp32, or logits (..., vocab_size) fp32.

    Padded ids never win.
    """
    if task.labels is not None and task.each_target:
        return target_nats(hidden, weight, task.labels, task.vocab_size)
    if task.labels is not None:
        return linear_cross_entropy(hidden, weight, task.labels, task.vocab_size)
    return functional.linear(hidden, weight)[..., : task.vocab_size].float()


class TokenTable(Table):
    """The token table, which is the output head too when tied.

    Both uses go through ``forward``: ZeRO-3 gathers a parameter around the forward pass of the module that owns it, so
    the weight is whole in both, without registering it as an external parameter of another module.
    """

    def forward(self, inputs: Tensor, task: HeadTask | None = None) -> Tensor:
        """Return the rows of the token ids, (B, S) -> (B, S, D); with ``task``, the head over hidden states."""
        if task is None:
            return super().forward(inputs)
        return apply_head(inputs, self.weight, task)


class OutputHead(Linear):
    """The untied output head."""

    def forward(self, inputs: Tensor, task: HeadTask | None = None) -> Tensor:
        """Return what ``task`` asks for over the hidden states (..., D)."""
        assert task is not None
        return apply_head(inputs, self.weight, task)
