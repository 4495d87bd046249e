"""The mixture as a plain loop over tokens' experts: what the other layers are tested against.

It imports nothing of the router or the dispatch, and needs no DeepSpeed: exports are checked with it.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn

from zhgpt.model.shape import DecoderShape


class ReferenceGate(nn.Module):
    """The router's weight and selection bias."""

    def __init__(self, num_experts: int, hidden_size: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        if bias:
            self.register_buffer("e_score_correction_bias", torch.zeros(num_experts))
        else:
            self.e_score_correction_bias = None


class ReferenceMixture(nn.Module):
    """All experts on one rank, names as in a transformers checkpoint."""

    def __init__(self, shape: DecoderShape, layer: int, experts: nn.ModuleList, shared: nn.Module | None) -> None:
        super().__init__()
        assert shape.moe is not None
        self.moe = shape.moe
        self.num_experts = shape.experts[layer]
        self.gate = ReferenceGate(self.num_experts, shape.hidden_size, bias=shape.moe.bias_update_rate > 0)
        self.experts = experts
        self.shared_experts = shared
        if shape.moe.use_residual:
            raise AssertionError("DeepSpeed's residual expert has no reference")
        self.chosen_TR: Tensor | None = None

    def forward(self, x_BSD: Tensor, tape: object = None) -> tuple[Tensor, Tensor | None]:
        """Return the mixture's output (B, S, D), and in training the router's losses (fp32 scalar)."""
        del tape
        logits_BSE = torch.einsum("bsd,ed->bse", x_BSD.float(), self.gate.weight.float())
        outputs, all_chosen, all_probabilities = [], [], []
        for logits_E, x_D in zip(logits_BSE.flatten(0, 1), x_BSD.flatten(0, 1), strict=True):
            chosen, weights, probabilities_E = self._route(logits_E)
            outputs.append(
                sum(weight * self.experts[e](x_D[None])[0] for e, weight in zip(chosen, weights, strict=True))
            )
            all_chosen.append(chosen)
            all_probabilities.append(probabilities_E)
        mixed_BSD = torch.stack(outputs).view(x_BSD.shape)
        if self.shared_experts is not None:
            mixed_BSD = mixed_BSD + self.shared_experts(x_BSD)
        self.chosen_TR = torch.tensor(all_chosen)
        if not self.training:
            return mixed_BSD, None
        return mixed_BSD, self._loss(self.chosen_TR, torch.stack(all_probabilities), logits_BSE)

    def _route(self, logits_E: Tensor) -> tuple[list[int], list[Tensor], Tensor]:
        """One token's experts, their weights, and its scores as a distribution."""
        moe = self.moe
        scores_E = logits_E.softmax(0) if moe.scoring_func == "softmax" else torch.sigmoid(logits_E)
        bias_E = self.gate.e_score_correction_bias
        wanted = (scores_E.detach() + (0 if bias_E is None else bias_E)).tolist()
        size = self.num_experts // moe.n_group
        strength = [sum(sorted(wanted[g * size : (g + 1) * size])[-2:]) for g in range(moe.n_group)]
        groups = sorted(range(moe.n_group), key=lambda g: -strength[g])[: moe.topk_group]
        allowed = [e for e in range(self.num_experts) if e // size in groups]
        chosen = sorted(allowed, key=lambda e: -wanted[e])[: moe.num_experts_per_tok]
        weights = [scores_E[e] for e in chosen]
        if moe.norm_topk_prob:
            whole = sum(weights[1:], start=weights[0])
            weights = [weight / whole for weight in weights]
        return chosen, [weight * moe.routed_scaling_factor for weight in weights], scores_E / scores_E.sum()

    def _loss(self, chosen_TR: Tensor, probabilities_TE: Tensor, logits_BSE: Tensor) -> Tensor:
        moe, (batch, _, experts) = self.moe, logits_BSE.shape
        total = torch.zeros(())
        if moe.router_aux_loss_coef:
            pieces = batch if moe.router_aux_loss_scope == "sequence" else 1
            balances = []
            for chosen_MR, probabilities_ME in zip(
                chosen_TR.chunk(pieces), probabilities_TE.chunk(pieces), strict=True
            ):
                loads = [float((chosen_MR == e).sum()) for e in range(experts)]
                load_E = torch.tensor(loads, device=probabilities_ME.device)
                if moe.router_aux_loss_scope == "global" and torch.distributed.is_initialized():
                    torch.distributed.all_reduce(load_E)
                balances.append(experts * torch.dot(load_E / load_E.sum(), probabilities_ME.mean(dim=0)))
            total = total + moe.router_aux_loss_coef * torch.stack(balances).mean()
        if moe.router_z_loss_coef:
            total = total + moe.router_z_loss_coef * logits_BSE.exp().sum(-1).log().pow(2).mean()
        return total
