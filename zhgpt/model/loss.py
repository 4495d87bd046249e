"""Output head and cross-entropy in one, chunk by chunk, so that the logits of a micro batch never exist at once."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100
# Logits in a chunk. CPU: measured at 8,192 ids, 16 MiB chunks took 0.8 of the time of 64 MiB ones (one thread).
# Elsewhere: 128 MiB in fp32, hundreds of rows at 50,000 ids, to keep the matrix products large (not measured).
CHUNK_ENTRIES = {"cpu": 2**22}
DEFAULT_CHUNK_ENTRIES = 2**25


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, vocab_size: int, z_loss_coef: float = 0.0
) -> Tensor:
    """Return the sum of the cross-entropies of ``labels`` under softmax(hidden weight^T), in nats, fp32 scalar.

    A sum, not a mean: the caller divides once by the number of targets of the whole step, and gradients stay large
    enough for fp16 before the loss is scaled. The products run in autocast's dtype where autocast is on, else in
    ``weight``'s; softmax and the accumulation of the weight's gradient are fp32. Gradients are computed in the forward
    pass, chunk by chunk, so nothing but them is kept (without grad, only the value is computed).

    Args:
        hidden: (..., D).
        weight: (V, D), the head or the tied token table.
        labels: (...) int64; ``IGNORED_LABEL`` marks positions without a target.
        vocab_size: rows of ``weight`` from here on are padding and take no part in the softmax.
        z_loss_coef: adds this times the sum of logsumexp(logits)^2 over the targets (z-loss, PaLM, arXiv 2204.02311,
            section 5).

    Returns:
        fp32 scalar; with ``z_loss_coef`` (2,): the sum of both losses, and what the z-loss has in it. Only the first has a
        gradient.
    """
    hidden_TD, labels_T = hidden.flatten(0, -2), labels.flatten()
    dtype = _product_dtype(weight)
    # ctx.needs_input_grad does not look at no_grad, so it is asked for here.
    with_gradients = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    arguments = (hidden_TD, weight, labels_T, vocab_size, z_loss_coef, dtype, with_gradients)
    losses_2 = cast(Tensor, _LinearCrossEntropy.apply(*arguments))
    return losses_2 if z_loss_coef else losses_2[0]


def reference_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, vocab_size: int, z_loss_coef: float = 0.0
) -> Tensor:
    """The same with all logits at once and autograd's own backward: what the fast one is tested against."""
    logits_TV = functional.linear(hidden.flatten(0, -2), weight).float()[:, :vocab_size]
    labels_T = labels.flatten()
    nats = functional.cross_entropy(logits_TV, labels_T, ignore_index=IGNORED_LABEL, reduction="sum")
    if not z_loss_coef:
        return nats
    z_loss = z_loss_coef * logits_TV[labels_T != IGNORED_LABEL].logsumexp(-1).square().sum()
    return torch.stack((nats + z_loss, z_loss.detach()))


@torch.no_grad()
def target_nats(hidden: Tensor, weight: Tensor, labels: Tensor, vocab_size: int) -> Tensor:
    """Return the cross-entropy of each of ``labels`` (...), fp32 nats, 0 without a target; for evaluating only.

    The terms of the sum that ``linear_cross_entropy`` gives, which takes the same arguments.
    """
    hidden_TD, labels_T = hidden.flatten(0, -2), labels.flatten()
    dtype = _product_dtype(weight)
    compute_TD, compute_VD = hidden_TD.to(dtype), weight.to(dtype)
    rows = _rows_of_chunk(hidden_TD, weight)
    nats_T = torch.zeros(labels_T.shape, dtype=torch.float32, device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, len(labels_T), rows):
            chunk = slice(start, start + rows)
            logits_CV = torch.mm(compute_TD[chunk], compute_VD.t()).float()[:, :vocab_size]
            nats_T[chunk] = functional.cross_entropy(
                logits_CV, labels_T[chunk], ignore_index=IGNORED_LABEL, reduction="none"
            )
    return nats_T.view(labels.shape)


def _product_dtype(weight: Tensor) -> torch.dtype:
    device_type = weight.device.type
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else weight.dtype


def _rows_of_chunk(hidden_TD: Tensor, weight_VD: Tensor) -> int:
    entries = CHUNK_ENTRIES.get(hidden_TD.device.type, DEFAULT_CHUNK_ENTRIES)
    return max(1, min(hidden_TD.shape[0], entries // weight_VD.shape[0]))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        labels_T: Tensor,
        vocab_size: int,
        z_loss_coef: float,
        dtype: torch.dtype,
        with_gradients: bool,
    ) -> Tensor:
        ctx.dtypes = hidden_TD.dtype, weight_VD.dtype
        compute_TD, compute_VD = hidden_TD.to(dtype), weight_VD.to(dtype)
        losses_2 = torch.zeros(2, dtype=torch.float32, device=hidden_TD.device)
        grad_TD = torch.empty_like(compute_TD) if with_gradients else None
        grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if with_gradients else None
        rows = _rows_of_chunk(hidden_TD, weight_VD)
        with torch.autocast(hidden_TD.device.type, enabled=False):
            for start in range(0, hidden_TD.shape[0], rows):
                chunk = slice(start, start + rows)
                logits_CV = torch.mm(compute_TD[chunk], compute_VD.t()).float()
                losses, slope_CV = _cross_entropy(logits_CV, labels_T[chunk], vocab_size, z_loss_coef, with_gradients)
                losses_2 += losses
                if grad_TD is not None and grad_VD is not None:
                    slope_CV = slope_CV.to(dtype)
                    torch.mm(slope_CV, compute_VD, out=grad_TD[chunk])
                    _add_product(grad_VD, slope_CV.t(), compute_TD[chunk])
        ctx.save_for_backward(grad_TD, grad_VD)
        return losses_2

    @staticmethod
    def backward(ctx: Any, grad_losses_2: Tensor) -> tuple[Tensor | None, ...]:
        grad_total = grad_losses_2[0]
        grad_TD, grad_VD = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        grad_hidden = (grad_TD * grad_total).to(hidden_dtype) if ctx.needs_input_grad[0] else None
        grad_weight = (grad_VD * grad_total).to(weight_dtype) if ctx.needs_input_grad[1] else None
        return grad_hidden, grad_weight, None, None, None, None, None


def _cross_entropy(
    logits_CV: Tensor, labels_C: Tensor, vocab_size: int, z_loss_coef: float, with_slope: bool
) -> tuple[Tensor, Tensor]:
    """Both losses and the z-loss in them (2,) of one chunk of fp32 logits, and with ``with_slope`` the slope of their sum:
    softmax times (1 + 2 z_loss_coef logsumexp) minus one-hot, 0 without target."""
    logits_CV[:, vocab_size:] = float("-inf")
    has_target_C1 = (labels_C != IGNORED_LABEL)[:, None]
    targets_C1 = labels_C.clamp(min=0)[:, None]
    log_softmax_CV = torch.log_softmax(logits_CV, dim=-1)
    log_likelihood_C1 = log_softmax_CV.gather(1, targets_C1)
    nats = -(log_likelihood_C1 * has_target_C1).sum()
    log_sum_C1 = logits_CV.gather(1, targets_C1) - log_likelihood_C1
    z_loss = z_loss_coef * (log_sum_C1.square() * has_target_C1).sum()
    losses_2 = torch.stack((nats + z_loss, z_loss))
    if with_slope:
        slope_CV = log_softmax_CV.exp_()
        if z_loss_coef:
            slope_CV.mul_(1 + 2 * z_loss_coef * log_sum_C1)
        slope_CV.scatter_add_(1, targets_C1, torch.full_like(log_likelihood_C1, -1.0))
        return losses_2, slope_CV.mul_(has_target_C1)
    return losses_2, log_softmax_CV


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, with ``total`` in fp32."""
    if left.dtype == torch.float32:
        total.addmm_(left, right)
    else:
        total.add_(torch.mm(left, right))
