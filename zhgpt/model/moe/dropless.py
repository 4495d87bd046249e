"""The dropless mixture: every token reaches its experts, whatever their loads; no capacity."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zhgpt.model.moe.dispatch import Sorting, combine, sort_by_expert, spread
from zhgpt.model.moe.experts import StackedExperts
from zhgpt.model.moe.routing import Router, Routes, RoutingCounts, RoutingTape, router_loss
from zhgpt.model.shape import DecoderShape


class ExpertHome(nn.Module):
    """Where DeepSpeed looks for a mixture's experts, and puts the process group of those that share them."""

    def __init__(self, experts: StackedExperts) -> None:
        super().__init__()
        self.experts = experts
        self.ep_group: Any = None

    def _set_ep_group(self, ep_group: Any) -> None:
        self.ep_group = ep_group


class DroplessMixture(nn.Module):
    """Router, sorted dispatch and stacked experts, all experts on each rank.

    To DeepSpeed it is a module like any other: every weight takes part in every forward pass, so that each ZeRO stage,
    the third too, handles it as it does dense layers.
    """

    def __init__(self, shape: DecoderShape, layer: int, shared: nn.Module | None, *, ep_size: int = 1) -> None:
        nn.Module.__init__(self)  # by name: a subclass has another base, which builds a gate and experts of its own
        assert shape.moe is not None
        self.moe = shape.moe
        self.ep_size = ep_size
        self.num_experts = shape.experts[layer]
        self.num_local_experts = self.num_experts // ep_size
        self.gate = Router(shape.moe, self.num_experts, shape.hidden_size)
        self.deepspeed_moe = ExpertHome(
            StackedExperts(self.num_local_experts, shape.hidden_size, shape.expert_size, gated=shape.gated_feed_forward)
        )
        self.shared = shared
        self.counts: RoutingCounts | None = None

    def forward(self, x_BSD: Tensor, tape: RoutingTape | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the mixture's output (B, S, D), and in training the router's losses (fp32 scalar)."""
        x_TD = x_BSD.flatten(0, 1)
        routes = Routes(*self.gate(x_TD, tape))
        round_up = x_BSD.device.type == "cpu" and self.ep_size == 1  # shared-out experts get the rows of several ranks
        sorting = sort_by_expert(routes.chosen_TR, self.num_experts, round_up=round_up)
        rows_PD = self._through_experts(spread(x_TD, sorting), sorting)
        mixed_BSD = combine(rows_PD, routes.weights_TR, sorting).to(x_BSD.dtype).view(x_BSD.shape)
        if self.shared is not None:
            mixed_BSD = mixed_BSD + self.shared(x_BSD)
        if not self.training:
            return mixed_BSD, None
        if tape is None or not tape.replaying:
            self._counts(x_BSD).add(sorting.load_E, routes.probabilities_TE.detach())
        return mixed_BSD, router_loss(routes, sorting.load_E, self.moe, x_BSD.shape[1])

    def _through_experts(self, rows_PD: Tensor, sorting: Sorting) -> Tensor:
        """What the experts make of rows in sorted order."""
        result: Tensor = self.deepspeed_moe.experts(rows_PD, sorting.ends_E.int())
        return result

    def _counts(self, like: Tensor) -> RoutingCounts:
        if self.counts is None:
            self.counts = RoutingCounts.zero(self.num_experts, like.device)
        return self.counts
