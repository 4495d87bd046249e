"""DeepSpeed's own gate: what it drops is counted, what it draws follows the generator, evaluation does neither."""

from typing import Any

import pytest
import torch
from tiny_mixture import batch, build

from zhgpt.model.moe.make import draws_random_numbers


@pytest.mark.parametrize(
    "settings",
    [
        {"num_experts_per_tok": 1, "norm_topk_prob": False, "capacity_factor": 0.5},
        {"num_experts_per_tok": 1, "norm_topk_prob": False, "capacity_factor": 0.5, "use_rts": False},
        {"capacity_factor": 0.5, "top2_2nd_expert_sampling": False},
        {"num_experts_per_tok": 3, "capacity_factor": 0.5},
        {"capacity_factor": 4.0, "top2_2nd_expert_sampling": False},
    ],
)
def test_routed_and_dropped_assignments_are_top_k_times_tokens(settings: dict[str, Any]) -> None:
    module = build("deepspeed", **settings)
    kept: list[int] = []
    for block in module.model.layers:
        gate = block.mlp.deepspeed_moe.gate
        gate.register_forward_hook(lambda gate, inputs, output: kept.append(int((output[3] >= 0).sum())))
    module(batch()[0], labels=batch()[1])
    top_k = settings.get("num_experts_per_tok", 2)
    counted = [block.mlp.counts for block in module.model.layers]
    assert [int(counts.load_E.sum()) for counts in counted] == [32 * top_k] * 2
    assert [int(counts.dropped) for counts in counted] == [32 * top_k - number for number in kept]
    assert any(int(counts.dropped) for counts in counted) == (settings["capacity_factor"] < 1)


@pytest.mark.parametrize(
    ("settings", "draws"),
    [
        ({}, True),
        ({"top2_2nd_expert_sampling": False}, False),
        ({"num_experts_per_tok": 1, "norm_topk_prob": False}, True),
        ({"num_experts_per_tok": 1, "norm_topk_prob": False, "use_rts": False}, False),
        ({"num_experts_per_tok": 3}, False),
        ({"num_experts_per_tok": 3, "noisy_gate_policy": "Jitter"}, True),
    ],
)
def test_training_follows_the_generator_and_evaluation_does_not(settings: dict[str, Any], draws: bool) -> None:
    module = build("deepspeed", capacity_factor=0.5, **settings)
    assert draws_random_numbers(module.model.layers[0].mlp.moe) == draws

    def losses(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return module(batch()[0], labels=batch()[1]).detach()

    assert torch.equal(losses(1), losses(1))
    assert torch.equal(losses(1), losses(2)) != draws
    module.eval()
    assert losses(1).dim() == 0
    assert torch.equal(losses(1), losses(2))


def test_evaluation_drops_nothing_and_takes_fewer_tokens_than_the_smallest_capacity() -> None:
    module = build("deepspeed", num_experts_per_tok=1, norm_topk_prob=False, capacity_factor=0.1, min_capacity=4)
    reference = build("reference", num_experts_per_tok=1, norm_topk_prob=False)
    module.eval()
    reference.eval()
    with torch.no_grad():
        torch.testing.assert_close(module(batch()[0]), reference(batch()[0]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(module(batch()[0][:1, :2]), reference(batch()[0][:1, :2]), atol=1e-5, rtol=1e-5)


def test_a_residual_expert_trains() -> None:
    module = build("deepspeed", num_experts_per_tok=1, norm_topk_prob=False, use_residual=True)
    result = module(batch()[0], labels=batch()[1])
    (result[0] / 32 + result[1]).backward()
    assert module.model.layers[0].mlp.coefficient.weight.grad.abs().sum() > 0
