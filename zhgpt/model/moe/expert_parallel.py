"""The dropless mixture over several ranks: each holds a part of the experts, rows travel to them and back."""

from __future__ import annotations

from deepspeed.moe.layer import MoE
from torch import Tensor, nn

from zhgpt.model.moe.dispatch import Sorting, Stopwatch, plan_exchange, send, send_back
from zhgpt.model.moe.dropless import DroplessMixture
from zhgpt.model.shape import DecoderShape


class ExpertParallelMixture(DroplessMixture, MoE):
    """``DroplessMixture`` in DeepSpeed's expert-parallel groups.

    A subclass of ``MoE`` so that DeepSpeed's engine finds it: it makes the groups (``set_deepspeed_parallelism``), reduces
    the experts' gradients over the ranks that hold the same ones, and saves experts one by one. Nothing else of ``MoE``
    is used.
    """

    def __init__(self, shape: DecoderShape, layer: int, shared: nn.Module | None, *, ep_size: int) -> None:
        super().__init__(shape, layer, shared, ep_size=ep_size)
        self.expert_group_name = f"ep_size_{ep_size}"
        self.use_residual = False
        self.enable_expert_tensor_parallelism = False
        for parameter in self.deepspeed_moe.experts.parameters():  # as deepspeed/moe/experts.py marks them
            parameter.allreduce = False  # type: ignore[attr-defined]
            parameter.group_name = self.expert_group_name  # type: ignore[attr-defined]

    def _through_experts(self, rows_PD: Tensor, sorting: Sorting) -> Tensor:
        with Stopwatch(rows_PD.device) as watch:
            exchange = plan_exchange(sorting.load_E, self.deepspeed_moe.ep_group)
            arrived_ND = send(rows_PD, exchange)
        given_ND = self.deepspeed_moe.experts(arrived_ND, exchange.ends_L)
        with watch:
            back_MD = send_back(given_ND, exchange)
        if self.training:
            self._counts(rows_PD).all_to_all_seconds += watch.seconds
        return back_MD
