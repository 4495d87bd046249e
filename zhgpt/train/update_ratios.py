"""How far a step moves each layer, relative to its weights: measured on the few steps that write a metrics line.

A block's fp32 weights are sampled before and after the update, at most 65,536 of each matrix on each rank, so that the copy
stays small whatever the model. Under ZeRO 1 to 3 a rank has only its fragments of the fp32 weights, and fragments of
different ranks do not overlap: sums of squares over all of them, added over the ranks, are those of the whole layer. At
ZeRO-0 every rank has all weights (and its own experts), which the sums are divided for.

The bf16 weights of the forward pass would not do: they move by a whole unit in the last place or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from zhgpt.distributed.process_group import Ranks
from zhgpt.train.engine import master_fragment

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

MOST_SAMPLED = 1 << 16
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclass(frozen=True)
class _Sample:
    """Some of one matrix's fp32 weights, before the step."""

    layer: int
    parameter: nn.Parameter
    before: torch.Tensor
    stride: int
    weight: float
    """What its sums count: the stride, over how many ranks have the same weights."""


@dataclass(frozen=True)
class UpdateSums:
    """Sums of squares by layer on this rank: (L, 2) fp64 on the device, of updates and of weights; summed when measured."""

    layers: tuple[int, ...]
    squares_L2: torch.Tensor

    def ratios(self, ranks: Ranks) -> dict[str, float | int]:
        """Fields for the metrics line; waits for the device, reached by all ranks."""
        flat = ranks.sums(self.squares_L2.flatten().tolist())
        updates, weights = flat[::2], flat[1::2]
        ratios = [(update / max(weight, 1e-30)) ** 0.5 for update, weight in zip(updates, weights, strict=True)]
        smallest, largest = (choose(range(len(ratios)), key=ratios.__getitem__) for choose in (min, max))
        ordered = sorted(ratios)
        return {
            "update_norm": sum(updates) ** 0.5,
            "update_ratio": ordered[len(ordered) // 2],
            "update_ratio_min": ratios[smallest],
            "update_ratio_min_layer": self.layers[smallest],
            "update_ratio_max": ratios[largest],
            "update_ratio_max_layer": self.layers[largest],
        }


class UpdateProbe:
    """One step's measurement: made before the update, finished after it. Nothing waits for the device."""

    def __init__(self, engine: DeepSpeedEngine, world_size: int) -> None:
        """Copies what the update will change.

        Args:
            engine: DeepSpeed's, at an accumulation boundary, before its step.
            world_size: all ranks.
        """
        self._stage = engine.zero_optimization_stage()
        self._world_size = world_size
        self._layers = tuple(sorted({layer for layer, _, _ in _matrices(engine.module)}))
        self._samples = [sample for sample in self._take(engine) if sample.before.numel()]
        self._device = next(iter(engine.module.parameters())).device

    def finish(self) -> UpdateSums:
        """Compares with the weights after the update."""
        row = {layer: number for number, layer in enumerate(self._layers)}
        squares = torch.zeros(len(self._layers), 2, dtype=torch.float64, device=self._device)
        for sample in self._samples:
            fragment = master_fragment(sample.parameter, self._stage)
            assert fragment is not None, "a fragment that was there before the step"
            after = fragment[:: sample.stride]
            update = (after - sample.before).square().sum(dtype=torch.float64)
            weight = sample.before.square().sum(dtype=torch.float64)
            squares[row[sample.layer]] += torch.stack((update, weight)).to(self._device) * sample.weight
        return UpdateSums(self._layers, squares)

    def _take(self, engine: DeepSpeedEngine) -> Iterator[_Sample]:
        for layer, parameter, holders in _matrices(engine.module, self._world_size):
            fragment = master_fragment(parameter, self._stage)
            if fragment is None:
                continue  # the whole matrix is with other ranks
            stride = -(-fragment.numel() // MOST_SAMPLED) or 1
            alike = holders if self._stage == 0 else 1
            yield _Sample(layer, parameter, fragment[::stride].clone(), stride, stride / alike)


def _matrices(module: nn.Module, world_size: int = 1) -> list[tuple[int, nn.Parameter, int]]:
    """(layer, matrix, ranks that have the same one) of all blocks; norms and biases move by other rules."""
    found = []
    for name, parameter in module.named_parameters():
        match = _LAYER.search(name)
        shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 leaves an empty shell between the passes
        if match and len(shape) >= 2 and parameter.requires_grad:
            group = getattr(parameter, "group_name", "")  # of shared-out experts: "ep_size_4"
            ep_size = int(group.rpartition("_")[2]) if group else 1
            found.append((int(match[1]), parameter, world_size // ep_size))
    return found
