"""Names of a mixture's weights: one by one and by global expert everywhere outside a running engine.

A running engine holds some of them otherwise: DeepSpeed's checkpoint code finds experts by ``deepspeed_moe.experts.
deepspeed_experts.<local number>``, takes every other name with "expert" in it for a mistake, and the dropless layer stacks
its experts in one tensor. Canonical names are those of transformers' Qwen3Moe and Dots1 classes:

    <layer>.mlp.gate.weight                          (E, D)
    <layer>.mlp.gate.e_score_correction_bias         (E,)
    <layer>.mlp.experts.<e>.{gate,up,down}_proj.weight   (F, D), (F, D), (D, F)
    <layer>.mlp.shared_experts.{gate,up,down}_proj.weight
    <layer>.mlp.residual.…, <layer>.mlp.coefficient.{weight,bias}    DeepSpeed's residual expert and its mixing
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor

EXPERTS = "deepspeed_moe.experts"
LOCAL_EXPERT = re.compile(r"^(.*\.mlp)\.deepspeed_moe\.experts\.deepspeed_experts\.(\d+)\.(.*)$")
STACKED = re.compile(r"^(.*\.mlp)\.deepspeed_moe\.experts\.(gate_proj|up_proj|down_proj)$")
RENAMED = {
    ".mlp.deepspeed_moe.gate.wg.": ".mlp.gate.",
    ".mlp.shared.": ".mlp.shared_experts.",
    ".mlp.mlp.": ".mlp.residual.",
}


def canonical_parts(
    name: str, tensor: Tensor, ep_rank: int = 0, local_experts: int = 0
) -> Iterator[tuple[str, Tensor]]:
    """Yield the canonical names that a running model's parameter stands for, each with a view of its values.

    Args:
        name: of a parameter or of a state dict's entry, of any layer; that of a dense model is its own canonical name.
        tensor: its values.
        ep_rank: this rank's place among those that share the experts.
        local_experts: experts on a rank (L), for names that count them from 0 on each; a stacked tensor has its own count.
    """
    found = STACKED.match(name)
    if found is not None:
        layer, kind = found.groups()
        for local, expert in enumerate(tensor):
            yield f"{layer}.experts.{ep_rank * tensor.shape[0] + local}.{kind}.weight", expert
        return
    found = LOCAL_EXPERT.match(name)
    if found is not None:
        layer, local_number, rest = found.groups()
        yield f"{layer}.experts.{ep_rank * local_experts + int(local_number)}.{rest}", tensor
        return
    for running, canonical in RENAMED.items():
        name = name.replace(running, canonical)
    yield name, tensor
