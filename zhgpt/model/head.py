"""The output end of the model: from hidden states to logits or to the loss, with a tied or its own table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
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
    z_loss_coef: float = 0.0


@dataclass(frozen=True)
class Losses:
    """The losses of one forward pass, fp32 scalars.

    Attributes:
        nats: sum over the targets.
        z_loss: sum over the targets, weighted; without a gradient of its own. None: not asked for.
        router_loss: of a mixture of experts in training, of all layers; None or 0: no mixture.
        objective: what is differentiated of ``nats`` and ``z_loss``: their sum.
    """

    nats: Tensor
    z_loss: Tensor | None
    router_loss: Tensor | None
    objective: Tensor


def join_losses(head_losses: Tensor, router_loss: Tensor | None) -> Tensor:
    """One tensor of all losses, because ZeRO-3 finds gradients only through tensors and plain containers.

    Args:
        head_losses: from ``linear_cross_entropy``: a scalar, or with a z-loss (2,).
        router_loss: scalar, of a mixture in training.

    Returns:
        A scalar: nats. (2,): nats, routers. (3,): objective, z-loss in it, routers (0 without).
    """
    if head_losses.dim() == 0:
        return head_losses if router_loss is None else torch.stack((head_losses, router_loss))
    last = head_losses.new_zeros(()) if router_loss is None else router_loss
    return torch.cat((head_losses, last[None]))


def split_losses(joined: Tensor) -> Losses:
    """Take apart what :func:`join_losses` gave."""
    if joined.dim() == 0:
        return Losses(joined, None, None, joined)
    if joined.shape[0] == 2:
        nats, routers = joined.unbind()
        return Losses(nats, None, routers, nats)
    objective, z_loss, routers = joined.unbind()
    return Losses(objective - z_loss, z_loss.detach(), routers, objective)


def apply_head(hidden: Tensor, weight: Tensor, task: HeadTask) -> Tensor:
    """Return the sum of nats (scalar; with a z-loss (2,)), those of each target (B, S), or logits (..., vocab_size).

    All in fp32. Padded ids never win.
    """
    if task.labels is not None and task.each_target:
        return target_nats(hidden, weight, task.labels, task.vocab_size)
    if task.labels is not None:
        return linear_cross_entropy(hidden, weight, task.labels, task.vocab_size, task.z_loss_coef)
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
