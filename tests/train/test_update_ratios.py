"""How far a step moves each layer, against the plain computation; under ZeRO: test_zero_parity.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from zhgpt.distributed.process_group import Ranks
from zhgpt.train.update_ratios import MOST_SAMPLED, UpdateProbe

ALONE = cast(Ranks, SimpleNamespace(sums=list))


def engine_of(*widths: int) -> Any:
    """The two things that the probe asks of an engine at ZeRO-0, around real layers."""
    torch.manual_seed(0)
    module = nn.Module()
    module.model = nn.Module()
    module.model.layers = nn.ModuleList(nn.Linear(width, 64) for width in widths)
    return SimpleNamespace(module=module, zero_optimization_stage=lambda: 0)


def test_each_layers_ratio_is_the_norm_of_its_update_over_that_of_its_weights() -> None:
    engine = engine_of(32, 48, 64)
    layers = engine.module.model.layers
    before = [layer.weight.detach().clone() for layer in layers]
    probe = UpdateProbe(engine, 1)
    with torch.no_grad():
        for layer, share in zip(layers, (1e-2, 1e-4, 1e-3), strict=True):
            layer.weight += share * torch.randn_like(layer.weight)
            layer.bias += 1.0  # vectors move by other rules and do not count
    record = probe.finish().ratios(ALONE)
    plain = [
        float((layer.weight.detach() - old).norm() / old.norm()) for layer, old in zip(layers, before, strict=True)
    ]
    assert record["update_ratio_max"] == pytest.approx(plain[0], rel=1e-5)
    assert record["update_ratio_min"] == pytest.approx(plain[1], rel=1e-5)
    assert record["update_ratio"] == pytest.approx(plain[2], rel=1e-5)
    assert (record["update_ratio_max_layer"], record["update_ratio_min_layer"]) == (0, 1)


def test_of_a_large_matrix_a_sample_is_kept_and_its_ratio_is_close() -> None:
    engine = engine_of(1 << 14)
    weight = engine.module.model.layers[0].weight
    probe = UpdateProbe(engine, 1)
    assert sum(sample.before.numel() for sample in probe._samples) <= MOST_SAMPLED
    with torch.no_grad():
        old = weight.clone()
        weight += 1e-3 * torch.randn_like(weight)
    assert probe.finish().ratios(ALONE)["update_ratio"] == pytest.approx(
        float((weight - old).norm() / old.norm()), rel=0.02
    )
