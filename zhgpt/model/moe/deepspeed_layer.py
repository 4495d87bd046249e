"""DeepSpeed's own mixture: its gate with a capacity, its experts one module each, its all-to-all."""

from __future__ import annotations

from typing import cast

import torch
from deepspeed.moe.layer import MoE
from torch import Tensor, nn

from zhgpt.model.moe.routing import RoutingCounts, RoutingTape
from zhgpt.model.shape import DecoderShape


class DeepSpeedMixture(MoE):
    """``deepspeed.moe.layer.MoE`` with evaluation that drops and draws nothing.

    Its gate draws random numbers in training (noise, which tokens are dropped, the second expert) from torch's global
    generator: the caller seeds it as a function of the step and has activation checkpointing restore it
    (``draws_random_numbers``).
    """

    def __init__(
        self, shape: DecoderShape, layer: int, ep_size: int, shared: nn.Module | None, expert: nn.Module
    ) -> None:
        moe = shape.moe
        assert moe is not None
        super().__init__(
            shape.hidden_size,
            expert,
            num_experts=shape.experts[layer],
            ep_size=ep_size,
            k=moe.num_experts_per_tok,
            capacity_factor=moe.capacity_factor,
            min_capacity=moe.min_capacity,
            use_residual=moe.use_residual,
            noisy_gate_policy=moe.noisy_gate_policy,
            drop_tokens=moe.drop_tokens,
            use_rts=moe.use_rts,
            top2_2nd_expert_sampling=moe.top2_2nd_expert_sampling,
        )
        self.moe = moe
        self.shared = shared
        self.counts: RoutingCounts | None = None

    def forward(self, x_BSD: Tensor, tape: RoutingTape | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the mixture's output (B, S, D), and in training the router's losses (fp32 scalar)."""
        self._set_gate(x_BSD.shape[0] * x_BSD.shape[1])
        mixed_BSD, balance, load_E = cast(tuple[Tensor, Tensor, Tensor], super().forward(x_BSD))
        if self.shared is not None:
            mixed_BSD = mixed_BSD + self.shared(x_BSD)
        if not self.training:
            return mixed_BSD, None
        if tape is None or not tape.replaying:
            self._count(x_BSD, load_E)
        return mixed_BSD, self.moe.router_aux_loss_coef * balance

    def _set_gate(self, tokens: int) -> None:
        """Evaluation neither drops tokens nor draws experts; a gate that wants more slots than there are tokens stops."""
        gate = self.deepspeed_moe.gate
        gate.drop_tokens = self.moe.drop_tokens and self.training
        gate.top2_2nd_expert_sampling = self.moe.top2_2nd_expert_sampling and self.training
        gate.min_capacity = min(self.moe.min_capacity, tokens)

    @torch.no_grad()
    def _count(self, x_BSD: Tensor, load_E: Tensor) -> None:
        """DeepSpeed's counts are those wanted; what was past the capacity is what exceeds it in them."""
        gate = self.deepspeed_moe.gate
        x_TD = x_BSD.detach().flatten(0, 1)
        probabilities_TE = nn.functional.linear(x_TD.float(), gate.wg.weight.float()).softmax(dim=1)
        if self.counts is None:
            self.counts = RoutingCounts.zero(self.num_experts, x_BSD.device)
        dropped = None
        if self.moe.drop_tokens:
            share = x_TD.shape[0] / self.num_experts * self.moe.capacity_factor * self.moe.num_experts_per_tok
            capacity = max(-int(-share // 1), gate.min_capacity)
            dropped = (load_E - capacity).clamp(min=0).sum()
        self.counts.add(load_E, probabilities_TE, dropped)
