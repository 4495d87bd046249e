"""The dropless mixture: every token reaches its experts, whatever their loads; no capacity, no padding."""

from __future__ import annotations

from typing import Any

from deepspeed.moe.layer import MoE
from torch import Tensor, nn

from zhgpt.model.moe.dispatch import Stopwatch, combine, plan_exchange, send, send_back, sort_by_expert, spread
from zhgpt.model.moe.experts import StackedExperts
from zhgpt.model.moe.routing import Router, RoutingCounts, RoutingTape, router_loss
from zhgpt.model.shape import DecoderShape


class ExpertHome(nn.Module):
    """Where DeepSpeed looks for a mixture's experts and puts their process group."""

    def __init__(self, experts: StackedExperts) -> None:
        super().__init__()
        self.experts = experts
        self.ep_group: Any = None

    def _set_ep_group(self, ep_group: Any) -> None:
        self.ep_group = ep_group


class DroplessMixture(MoE):
    """Router, sorted dispatch and stacked experts in DeepSpeed's expert-parallel groups.

    A subclass so that DeepSpeed's engine finds it: it makes the groups (``set_deepspeed_parallelism``), reduces the experts'
    gradients over the ranks that hold the same ones, and saves experts one by one. Nothing else of ``MoE`` is used.
    """

    def __init__(self, shape: DecoderShape, layer: int, ep_size: int, shared: nn.Module | None) -> None:
        nn.Module.__init__(self)  # not MoE's, which builds its own gate and experts
        assert shape.moe is not None
        self.moe = shape.moe
        self.num_experts = shape.experts[layer]
        self.ep_size = ep_size
        self.num_local_experts = self.num_experts // ep_size
        self.expert_group_name = f"ep_size_{ep_size}"
        self.use_residual = False
        self.enable_expert_tensor_parallelism = False
        self.gate = Router(shape.moe, self.num_experts, shape.hidden_size)
        experts = StackedExperts(
            self.num_local_experts, shape.hidden_size, shape.expert_size, gated=shape.gated_feed_forward
        )
        for parameter in experts.parameters():  # as deepspeed/moe/experts.py marks them
            parameter.allreduce = False  # type: ignore[attr-defined]
            parameter.group_name = self.expert_group_name  # type: ignore[attr-defined]
        self.deepspeed_moe = ExpertHome(experts)
        self.shared = shared
        self.counts: RoutingCounts | None = None

    def forward(self, x_BSD: Tensor, tape: RoutingTape | None = None) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        """Return the mixture's output (B, S, D), and in training the router's losses (fp32 scalar)."""
        x_TD = x_BSD.flatten(0, 1)
        routes = self.gate(x_TD, tape)
        sorting = sort_by_expert(routes.chosen_TR, self.num_experts)
        rows_MD = self._through_experts(spread(x_TD, sorting), sorting.load_E)
        mixed_BSD = combine(rows_MD, routes.weights_TR, sorting).to(x_BSD.dtype).view(x_BSD.shape)
        if self.shared is not None:
            mixed_BSD = mixed_BSD + self.shared(x_BSD)
        if not self.training:
            return mixed_BSD, None
        if tape is None or not tape.replaying:
            self._counts(x_BSD).add(sorting.load_E, routes.probabilities_TE.detach())
        return mixed_BSD, router_loss(routes, sorting.load_E, self.moe, x_BSD.shape[1])

    def _through_experts(self, rows_MD: Tensor, load_E: Tensor) -> Tensor:
        experts = self.deepspeed_moe.experts
        if self.ep_size == 1:
            result: Tensor = experts(rows_MD, load_E.cumsum(0).int())
            return result
        with Stopwatch(rows_MD.device) as watch:
            exchange = plan_exchange(load_E, self.deepspeed_moe.ep_group)
            arrived_ND = send(rows_MD, exchange)
        given_ND = experts(arrived_ND, exchange.ends_L)
        with watch:
            back_MD = send_back(given_ND, exchange)
        if self.training:
            self._counts(rows_MD).all_to_all_seconds += watch.seconds
        return back_MD

    def _counts(self, like: Tensor) -> RoutingCounts:
        if self.counts is None:
            self.counts = RoutingCounts.zero(self.num_experts, like.device)
        return self.counts
