"""Output head and cross-entropy in one, chunk by chunk, so that the logits of a micro batch never exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100
# Logits in a chunk: 64 MiB in bf16. Slopes take their place and go into the weight's gradient by one product, and adding that
# product costs as much as reading and writing the whole gradient: on a CPU, at 32,000 ids, half as many took 1.1 of the time.
CHUNK_ENTRIES = 2**25
# Entries that are worked on in fp32 at a time, logits for their softmax above all. CPU: 0.5 MiB, which a core's cache holds; at
# 32 MiB the softmax took three to four times as long. Elsewhere as many as a chunk has.
FP32_ENTRIES = {"cpu": 2**17}
# Rows of the weight's gradient whose product is made at a time; elsewhere all.
PRODUCT_ROWS = {"cpu": 8192}
# Chunks are a multiple of this many rows: on a CPU, products over 524 rows took 1.1 of the time of 512, row by row.
ROW_MULTIPLE = 64
# Below this a softmax in fp32 has lost digits, and its logarithm with them.
SMALLEST_SHARE = 1e-30


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
    dtype, device_type = _product_dtype(weight), hidden.device.type
    compute_TD, compute_VD = hidden_TD.to(dtype), weight.to(dtype)
    nats_T = torch.zeros(labels_T.shape, dtype=torch.float32, device=hidden.device)
    with without_autocast(device_type):
        for chunk in _chunks(len(labels_T), weight.shape[0]):
            logits_CV = torch.mm(compute_TD[chunk], compute_VD.t())
            labels_C, nats_C = labels_T[chunk], nats_T[chunk]
            for rows in _fp32_rows(logits_CV):
                nats_C[rows] = functional.cross_entropy(
                    logits_CV[rows].float()[:, :vocab_size],
                    labels_C[rows],
                    ignore_index=IGNORED_LABEL,
                    reduction="none",
                )
    return nats_T.view(labels.shape)


def _product_dtype(weight: Tensor) -> torch.dtype:
    device_type = weight.device.type
    autocast = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if autocast else weight.dtype


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
        with without_autocast(hidden_TD.device.type):
            for chunk in _chunks(hidden_TD.shape[0], weight_VD.shape[0]):
                logits_CV = torch.mm(compute_TD[chunk], compute_VD.t())
                losses_2 += _cross_entropy(logits_CV, labels_T[chunk], vocab_size, z_loss_coef, with_gradients)
                if grad_TD is not None and grad_VD is not None:
                    torch.mm(logits_CV, compute_VD, out=grad_TD[chunk])  # they are slopes now
                    _add_product(grad_VD, logits_CV.t(), compute_TD[chunk])
                del logits_CV  # before the next ones
        ctx.save_for_backward(grad_TD, grad_VD)
        return losses_2

    @staticmethod
    def backward(ctx: Any, grad_losses_2: Tensor) -> tuple[Tensor | None, ...]:
        grad_total = grad_losses_2[0]
        grad_TD, grad_VD = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        grad_hidden = (grad_TD * grad_total).to(hidden_dtype) if ctx.needs_input_grad[0] else None
        grad_weight = _scaled(grad_VD, grad_total, weight_dtype) if ctx.needs_input_grad[1] else None
        return grad_hidden, grad_weight, None, None, None, None, None


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Keeps autocast out; the meta device has none."""
    available = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if available else nullcontext()


def _chunks(tokens: int, vocabulary: int) -> Iterator[slice]:
    rows = max(1, CHUNK_ENTRIES // vocabulary)
    return _slices(tokens, rows // ROW_MULTIPLE * ROW_MULTIPLE or rows)


def _fp32_rows(x: Tensor) -> Iterator[slice]:
    """All rows of a matrix, as many at a time as are worked on in fp32."""
    rows, columns = x.shape
    return _slices(rows, max(1, FP32_ENTRIES.get(x.device.type, CHUNK_ENTRIES) // columns))


def _slices(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _cross_entropy(
    logits_CV: Tensor, labels_C: Tensor, vocab_size: int, z_loss_coef: float, with_slope: bool
) -> Tensor:
    """Both losses and the z-loss in them (2,), fp32, of one chunk of logits in the products' dtype.

    With ``with_slope`` the slope of their sum takes the logits' place: softmax times (1 + 2 z_loss_coef logsumexp) minus
    one-hot, 0 without target.
    """
    logits_CV[:, vocab_size:] = float("-inf")
    targets_C1 = labels_C.clamp(min=0)[:, None]
    target_logits_C1 = logits_CV.gather(1, targets_C1).float()
    log_likelihood_C1 = torch.cat(
        [
            _softmax_in_place(logits_CV[rows], targets_C1[rows], z_loss_coef, with_slope)
            for rows in _fp32_rows(logits_CV)
        ]
    )
    log_sum_C1 = target_logits_C1 - log_likelihood_C1
    has_target_C1 = (labels_C != IGNORED_LABEL)[:, None]
    nats = -(log_likelihood_C1 * has_target_C1).sum()
    z_loss = z_loss_coef * (log_sum_C1.square() * has_target_C1).sum()
    if with_slope:
        target_slopes_C1 = log_likelihood_C1.exp() * (1 + 2 * z_loss_coef * log_sum_C1) - 1
        rows_C = torch.arange(len(labels_C), device=labels_C.device)
        # Not scatter_: on a CPU it goes over all slopes twice.
        logits_CV[rows_C, targets_C1[:, 0]] = target_slopes_C1[:, 0].to(logits_CV.dtype)
        if logits_CV.device.type == "cpu":  # nobody waits for a device here, and a pass over all slopes is saved
            logits_CV.index_fill_(0, (~has_target_C1).flatten().nonzero().flatten(), 0.0)
        else:
            logits_CV.mul_(has_target_C1)
    return torch.stack((nats + z_loss, z_loss))


def _softmax_in_place(logits_RV: Tensor, targets_R1: Tensor, z_loss_coef: float, with_slope: bool) -> Tensor:
    """Log-likelihood of the targets (R, 1), fp32; with ``with_slope`` softmax times (1 + 2 z_loss_coef logsumexp) takes the
    logits' place."""
    fp32_RV = logits_RV.float()
    if not with_slope:
        return torch.log_softmax(fp32_RV, dim=-1).gather(1, targets_R1)
    shares = _shares_on_cpu if logits_RV.device.type == "cpu" else _shares
    log_likelihood_R1, share_RV = shares(fp32_RV, targets_R1)
    if z_loss_coef:
        share_RV.mul_(1 + 2 * z_loss_coef * (fp32_RV.gather(1, targets_R1) - log_likelihood_R1))
    logits_RV.copy_(share_RV)
    return log_likelihood_R1


def _shares(logits_RV: Tensor, targets_R1: Tensor) -> tuple[Tensor, Tensor]:
    """Log-likelihood of the targets (R, 1), and the softmax, of fp32 logits."""
    log_softmax_RV = torch.log_softmax(logits_RV, dim=-1)
    log_likelihood_R1 = log_softmax_RV.gather(1, targets_R1)
    return log_likelihood_R1, log_softmax_RV.exp_()


def _shares_on_cpu(logits_RV: Tensor, targets_R1: Tensor) -> tuple[Tensor, Tensor]:
    """The same by one softmax: torch's CPU softmax takes a fifth of the time of its exponential function."""
    share_RV = torch.softmax(logits_RV, dim=-1)
    likelihood_R1 = share_RV.gather(1, targets_R1)
    if likelihood_R1.min() > SMALLEST_SHARE:
        return likelihood_R1.log(), share_RV
    return logits_RV.gather(1, targets_R1) - logits_RV.logsumexp(dim=-1, keepdim=True), share_RV


def _add_product(total_VD: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, with ``total`` in fp32."""
    if left.dtype == torch.float32:
        total_VD.addmm_(left, right)
        return
    count = total_VD.shape[0]
    for rows in _slices(count, PRODUCT_ROWS.get(total_VD.device.type, count)):
        total_RD, product_RD = total_VD[rows], torch.mm(left[rows], right)
        for some in _fp32_rows(total_RD):  # what is added is made fp32 before
            total_RD[some].add_(product_RD[some])


def _scaled(total_VD: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """total * factor, multiplied in fp32, in ``dtype``."""
    if dtype == total_VD.dtype:
        return total_VD * factor
    scaled_VD = torch.empty_like(total_VD, dtype=dtype)
    for rows in _fp32_rows(total_VD):
        scaled_VD[rows] = total_VD[rows] * factor
    return scaled_VD
