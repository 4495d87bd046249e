"""Where DeepSpeed's ZeRO optimizers keep the matrices of a parameter group, read from their own bookkeeping.

Sources, version 0.19.8: deepspeed/runtime/zero/stage_1_and_2.py, bf16_optimizer.py and stage3.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch.distributed
from torch import Tensor

from zhgpt.train.matrix_exchange import MatrixExchange
from zhgpt.train.matrix_layout import lay_each_divided, lay_one_after_another

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


def matrix_exchanges(engine: "DeepSpeedEngine") -> dict[Tensor, MatrixExchange]:
    """For each flat vector with matrices for Muon, how these come together. Nothing at ZeRO-0: parameters stay whole.

    Args:
        engine: fresh from ``deepspeed.initialize``, with an optimizer whose groups say their ``algorithm``.
    """
    stage, zero = engine.zero_optimization_stage(), engine.optimizer
    if stage == 0:
        return {}
    return dict(_sub_groups(zero) if stage == 3 else _groups(zero))


def _groups(zero: Any) -> Iterator[tuple[Tensor, MatrixExchange]]:
    """ZeRO 1 and 2, and BF16_Optimizer, which has other names and neither reorders nor pads between parameters."""
    for index, group in enumerate(zero.optimizer.param_groups):
        if group["algorithm"] != "muon":
            continue
        (vector,) = group["params"]
        if hasattr(zero, "round_robin_bit16_groups"):  # also where round_robin_gradients is off
            parameters, starts = zero.round_robin_bit16_groups[index], zero.round_robin_bit16_offsets[index]
        else:
            parameters = zero.bf16_groups[index]
            starts = [sum(earlier.numel() for earlier in parameters[:place]) for place in range(len(parameters))]
        shapes = [parameter.shape for parameter in parameters]
        process_group = zero.real_dp_process_group[index]
        ranks = torch.distributed.get_world_size(process_group)
        layout = lay_one_after_another(shapes, starts, vector.numel(), ranks)
        yield vector, MatrixExchange(layout, torch.distributed.get_rank(process_group), ranks, process_group)


def _sub_groups(zero: Any) -> Iterator[tuple[Tensor, MatrixExchange]]:
    """ZeRO-3 cuts large groups into sub-groups and steps one after another."""
    for index, parameters in enumerate(zero.fp16_groups):
        if zero.optimizer.param_groups[zero.sub_group_to_group_id[index]]["algorithm"] != "muon":
            continue
        process_group = zero.sub_group_process_groups[index]
        ranks = torch.distributed.get_world_size(process_group)
        shapes, sizes = [p.ds_shape for p in parameters], [p.partition_numel() for p in parameters]
        layout = lay_each_divided(shapes, sizes, ranks)
        rank = torch.distributed.get_rank(process_group)
        yield zero.fp32_partitioned_groups_flat[index], MatrixExchange(layout, rank, ranks, process_group)
