"""What the routers of a mixture of experts did: balanced after each step, counted into the metrics when they are due."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed
from torch import nn

from zhgpt.distributed.process_group import Ranks
from zhgpt.model.moe.routing import Router, RoutingCounts

DEAD_SHARE = 0.01
"""An expert with less than this share of an even load counts as dead."""


@dataclass(frozen=True)
class RoutingReport:
    """The routers since the last report, over all ranks.

    Attributes:
        record: fields for the metrics line.
        layers: for each mixture its layer, the experts' shares of its assignments and, where there is one, the selection
            bias.
    """

    record: dict[str, float | int]
    layers: list[dict[str, Any]]


def mixtures(module: nn.Module) -> dict[int, nn.Module]:
    """The mixture of each layer that is one, by the layer's index; empty for a dense model."""
    layers = cast(Any, module).model.layers
    return {index: layer.mlp for index, layer in enumerate(layers) if layer.is_mixture}


def seed_draws(seed: int, step: int, micro_step: int, rank: int) -> None:
    """Seeds torch's generator as a function of the place in the run, so that a resumed run draws what it would have."""
    digest = hashlib.sha256(f"{seed}:{step}:{micro_step}:{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def balance_by_bias(module: nn.Module) -> None:
    """Moves the selection biases by the loads of the step that has ended, over all ranks; reached by all of them."""
    found = [(mixture.gate, mixture.counts) for mixture in mixtures(module).values() if _has_bias(mixture)]
    if not found:
        return
    counts = [cast(RoutingCounts, count) for _, count in found]
    loads = torch.cat([count.step_load_E for count in counts])
    torch.distributed.all_reduce(loads)
    sizes = [count.step_load_E.shape[0] for count in counts]
    for (gate, _), count, load_E in zip(found, counts, loads.split(sizes), strict=True):
        cast(Router, gate).move_bias(load_E)
        count.step_load_E.zero_()


def _has_bias(mixture: nn.Module) -> bool:
    return getattr(getattr(mixture, "gate", None), "e_score_correction_bias", None) is not None


def forget_routing(module: nn.Module) -> None:
    """Starts the counts of all routers anew: the steps that they are of are run again."""
    for mixture in mixtures(module).values():
        if getattr(mixture, "counts", None) is not None:
            cast(RoutingCounts, mixture.counts).reset()


def report_routing(module: nn.Module, ranks: Ranks, lap_seconds: float) -> RoutingReport | None:
    """Takes the counts of all routers and starts them anew; None for a dense model. Waits for the device.

    Args:
        module: the model.
        ranks: all ranks; each reaches this.
        lap_seconds: how long the steps took that were counted.
    """
    found = {
        index: mixture for index, mixture in mixtures(module).items() if getattr(mixture, "counts", None) is not None
    }
    if not found:
        return None
    counts = {index: cast(RoutingCounts, mixture.counts) for index, mixture in found.items()}
    own: list[float] = []
    for count in counts.values():
        own += [
            *count.load_E.tolist(),
            float(count.entropy),
            float(count.dropped),
            count.tokens,
            count.all_to_all_seconds,
        ]
    summed = iter(ranks.sums(own))
    layers, entropies, dropped, assigned, exchange_seconds = [], [], 0.0, 0.0, 0.0
    for index, count in counts.items():
        loads = [next(summed) for _ in range(count.load_E.shape[0])]
        entropy, lost, tokens, seconds = (next(summed) for _ in range(4))
        total = max(sum(loads), 1.0)
        layer: dict[str, Any] = {"layer": index, "load": [round(load / total, 6) for load in loads]}
        if _has_bias(found[index]):
            layer["bias"] = [round(value, 6) for value in cast(Any, found[index]).gate.e_score_correction_bias.tolist()]
        layers.append(layer)
        entropies.append(entropy / max(tokens, 1.0))
        dropped, assigned, exchange_seconds = dropped + lost, assigned + total, exchange_seconds + seconds
        count.reset()
    return RoutingReport(_summary(layers, entropies, dropped / assigned, exchange_seconds, lap_seconds, ranks), layers)


def _summary(
    layers: list[dict[str, Any]],
    entropies: list[float],
    dropped: float,
    exchange_seconds: float,
    lap_seconds: float,
    ranks: Ranks,
) -> dict[str, float | int]:
    relative = [share * len(layer["load"]) for layer in layers for share in layer["load"]]
    record: dict[str, float | int] = {
        "expert_load_max": max(relative),
        "expert_load_min": min(relative),
        "dead_experts": sum(load < DEAD_SHARE for load in relative),
        "router_entropy": sum(entropies) / len(entropies),
        "dropped_share": dropped,
    }
    biases = [abs(value) for layer in layers for value in layer.get("bias", ())]
    if biases:
        record["selection_bias_max"] = max(biases)
    if exchange_seconds:
        record["all_to_all_share"] = exchange_seconds / ranks.world_size / max(lap_seconds, 1e-9)
    return record
