"""The router: which experts each token is sent to and with which weights; scores, selection bias, groups, balance losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zhgpt.config.moe_section import MoeSection
from zhgpt.model.loss import without_autocast
from zhgpt.model.moe.dispatch import stretches

SMALLEST_SUM = 1e-20
"""Added to the sum of a token's weights before they are divided by it, as in transformers."""


@dataclass
class RoutingTape:
    """What one layer chose in its first forward pass, for the second one under activation checkpointing.

    A recomputed layer must send every token where it went before: the gradients of an expert belong to the tokens it saw.
    Rounding may differ between the two passes (another kernel, another batch of the matrix product), and near a tie
    that is enough to choose otherwise.
    """

    chosen: Tensor | None = None
    replaying: bool = False

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For ``torch.utils.checkpoint``: around the first pass, and around the recomputation."""
        return self._state(replaying=False), self._state(replaying=True)

    @contextmanager
    def _state(self, *, replaying: bool) -> Iterator[None]:
        self.replaying = replaying
        try:
            yield
        finally:
            self.replaying = False


@dataclass(frozen=True)
class Routes:
    """Where T tokens go.

    Attributes:
        chosen_TR: int64, the experts of each token.
        weights_TR: fp32, with gradient.
        probabilities_TE: fp32, with gradient: the scores as a distribution over the experts.
        logits_TE: fp32, with gradient.
    """

    chosen_TR: Tensor
    weights_TR: Tensor
    probabilities_TE: Tensor
    logits_TE: Tensor


class _Logits(torch.autograd.Function):
    """``linear(x.float(), weight.float())``, in fp32 a stretch at a time: no fp32 copy of x is kept, or made at once on a CPU."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_ED: Tensor) -> Tensor:
        ctx.save_for_backward(x_TD, weight_ED)
        logits_TE = x_TD.new_empty(x_TD.shape[0], weight_ED.shape[0], dtype=torch.float32)
        weight_DE = weight_ED.float().t()
        for stretch in stretches(x_TD):
            torch.mm(x_TD[stretch].float(), weight_DE, out=logits_TE[stretch])
        return logits_TE

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TE: Tensor) -> tuple[Tensor, Tensor]:
        x_TD, weight_ED = ctx.saved_tensors
        grad_TD, grad_ED = torch.empty_like(x_TD), torch.zeros_like(weight_ED, dtype=torch.float32)
        fp32_weight_ED = weight_ED.float()
        for stretch in stretches(x_TD):
            grad_TD[stretch] = torch.mm(grad_TE[stretch], fp32_weight_ED)
            grad_ED.addmm_(grad_TE[stretch].t(), x_TD[stretch].float())
        return grad_TD, grad_ED.to(weight_ED.dtype)


class Router(nn.Module):
    """Linear scores of every expert, in fp32 whatever the model's precision (under bf16 of its bf16 weights).

    ``e_score_correction_bias`` is added for the choice alone, never to the weights (DeepSeek-V3, arXiv 2412.19437,
    section 2.1.2). It is no buffer: DeepSpeed casts buffers to bf16, in which small steps are lost.
    """

    def __init__(self, moe: MoeSection, num_experts: int, hidden_size: int) -> None:
        super().__init__()
        self.moe = moe
        self.num_experts = num_experts
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        self.e_score_correction_bias = torch.zeros(num_experts, dtype=torch.float32) if moe.bias_update_rate else None

    def forward(self, x_TD: Tensor, tape: RoutingTape | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the fields of ``Routes`` of tokens (T, D): a tuple, in which ZeRO-3 finds tensors to hang its hooks on."""
        with without_autocast(x_TD.device.type):
            logits_TE: Tensor = _Logits.apply(x_TD, self.weight)
            scores_TE = SCORES[self.moe.scoring_func](logits_TE)
            if tape is not None and tape.replaying and tape.chosen is not None:
                chosen_TR = tape.chosen
            else:
                chosen_TR = self._choose(scores_TE.detach())
            if tape is not None and not tape.replaying:
                tape.chosen = chosen_TR
            weights_TR = scores_TE.gather(1, chosen_TR)
            if self.moe.norm_topk_prob:
                weights_TR = weights_TR / (weights_TR.sum(dim=1, keepdim=True) + SMALLEST_SUM)
            if self.moe.scoring_func == "sigmoid":
                probabilities_TE = scores_TE / (scores_TE.sum(dim=1, keepdim=True) + SMALLEST_SUM)
            else:
                probabilities_TE = scores_TE
        return chosen_TR, weights_TR * self.moe.routed_scaling_factor, probabilities_TE, logits_TE

    def _choose(self, scores_TE: Tensor) -> Tensor:
        if self.e_score_correction_bias is not None:
            scores_TE = scores_TE + self.e_score_correction_bias
        if self.moe.n_group > 1:
            scores_TE = within_best_groups(scores_TE, self.moe.n_group, self.moe.topk_group)
        return scores_TE.topk(self.moe.num_experts_per_tok, dim=1).indices

    @torch.no_grad()
    def move_bias(self, load_E: Tensor) -> None:
        """After a step: less likely for experts above the mean load, likelier for those below.

        Args:
            load_E: tokens of each expert in the step, over all ranks; fp32 or int64.
        """
        if self.e_score_correction_bias is not None:
            load_E = load_E.float()
            self.e_score_correction_bias += self.moe.bias_update_rate * torch.sign(load_E.mean() - load_E)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Router:
        """Move the bias with the weights, and leave its dtype alone."""
        super()._apply(fn, recurse)
        if self.e_score_correction_bias is not None:
            self.e_score_correction_bias = self.e_score_correction_bias.to(self.weight.device)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.e_score_correction_bias is not None:
            destination[prefix + "e_score_correction_bias"] = self.e_score_correction_bias

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        name = prefix + "e_score_correction_bias"
        if self.e_score_correction_bias is not None:
            if name in state_dict:
                saved = state_dict[name]
                self.e_score_correction_bias = saved.detach().clone().to(self.weight.device, torch.float32)
            else:
                others[2].append(name)  # missing_keys
            state_dict = {key: value for key, value in state_dict.items() if key != name}
        super()._load_from_state_dict(state_dict, prefix, *others)


def within_best_groups(scores_TE: Tensor, n_group: int, topk_group: int) -> Tensor:
    """Return the scores with those outside each token's best groups at -inf; a group counts by its two best experts."""
    grouped_TGE = scores_TE.unflatten(1, (n_group, -1))
    best_TG = grouped_TGE.topk(2, dim=2).values.sum(dim=2).topk(topk_group, dim=1).indices
    outside_TG = torch.ones(grouped_TGE.shape[:2], dtype=torch.bool, device=scores_TE.device).scatter(1, best_TG, False)
    return grouped_TGE.masked_fill(outside_TG[:, :, None], float("-inf")).flatten(1)


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits_TE: logits_TE.softmax(dim=1),
    "sigmoid": lambda logits_TE: logits_TE.sigmoid(),
}


def router_loss(routes: Routes, load_E: Tensor, moe: MoeSection, sequence_length: int) -> Tensor:
    """Return the weighted balance and z-loss of one layer, fp32 scalar with gradient.

    The balance loss is E * sum over experts of (share of the assignments) * (mean probability), 1 when both are even
    (Switch Transformer, arXiv 2101.03961, eq. 4). The shares carry no gradient.

    Args:
        routes: of T tokens, sequence after sequence.
        load_E: assignments of each expert among them, int64.
        moe: weights and scope.
        sequence_length: S, for the scope ``sequence``.
    """
    total = routes.logits_TE.new_zeros(())
    if moe.router_aux_loss_coef:
        total = total + moe.router_aux_loss_coef * BALANCE_LOSSES[moe.router_aux_loss_scope](
            routes, load_E, sequence_length
        )
    if moe.router_z_loss_coef:
        total = total + moe.router_z_loss_coef * routes.logits_TE.logsumexp(dim=1).square().mean()
    return total


def _balance(load_E: Tensor, probabilities_E: Tensor) -> Tensor:
    share_E = load_E.float() / load_E.sum()
    return load_E.shape[0] * (share_E * probabilities_E).sum()


def _micro_batch_balance(routes: Routes, load_E: Tensor, sequence_length: int) -> Tensor:
    del sequence_length
    return _balance(load_E, routes.probabilities_TE.mean(dim=0))


def _global_balance(routes: Routes, load_E: Tensor, sequence_length: int) -> Tensor:
    """Loads of all ranks and this rank's probabilities: the mean over the ranks is the loss of all tokens."""
    del sequence_length
    load_E = load_E.clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(load_E)
    return _balance(load_E, routes.probabilities_TE.mean(dim=0))


def _sequence_balance(routes: Routes, load_E: Tensor, sequence_length: int) -> Tensor:
    experts = load_E.shape[0]
    probabilities_BSE = routes.probabilities_TE.unflatten(0, (-1, sequence_length))
    chosen_BM = routes.chosen_TR.unflatten(0, (-1, sequence_length)).flatten(1)
    load_BE = torch.zeros(chosen_BM.shape[0], experts, device=chosen_BM.device)
    load_BE.scatter_add_(1, chosen_BM, torch.ones_like(chosen_BM, dtype=torch.float32))
    share_BE = load_BE / chosen_BM.shape[1]
    return experts * (share_BE * probabilities_BSE.mean(dim=1)).sum(dim=1).mean()


BALANCE_LOSSES: dict[str, Callable[[Routes, Tensor, int], Tensor]] = {
    "micro_batch": _micro_batch_balance,
    "sequence": _sequence_balance,
    "global": _global_balance,
}


@dataclass
class RoutingCounts:
    """What one layer's router did since the counts were last taken; tensors on the device, nothing waits for it.

    ``load_E`` counts assignments (tokens times top-k), ``step_load_E`` those of the present step, ``dropped`` those past a
    capacity; ``entropy`` sums nats over the tokens.
    """

    load_E: Tensor
    step_load_E: Tensor
    entropy: Tensor
    dropped: Tensor
    tokens: int = 0
    all_to_all_seconds: float = 0.0

    @classmethod
    def zero(cls, num_experts: int, device: torch.device) -> RoutingCounts:
        """Nothing counted yet."""
        load_E = torch.zeros(num_experts, dtype=torch.int64, device=device)
        return cls(
            load_E, load_E.clone(), torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
        )

    @torch.no_grad()
    def add(self, load_E: Tensor, probabilities_TE: Tensor, dropped: Tensor | None = None) -> None:
        """Count one forward pass."""
        self.load_E += load_E
        self.step_load_E += load_E
        self.entropy += torch.special.entr(probabilities_TE).sum()
        if dropped is not None:
            self.dropped += dropped
        self.tokens += probabilities_TE.shape[0]

    def reset(self) -> None:
        """Start counting anew; those of the present step stay."""
        self.load_E.zero_()
        self.entropy.zero_()
        self.dropped.zero_()
        self.tokens, self.all_to_all_seconds = 0, 0.0
