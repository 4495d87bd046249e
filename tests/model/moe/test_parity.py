"""The dropless and DeepSpeed's layer against the plain loop: outputs, losses and gradients, for each option."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from tiny_mixture import batch, build, gradients

from zhgpt.model.moe import dispatch, experts
from zhgpt.model.moe.experts import through_experts

OPTIONS: dict[str, dict[str, Any]] = {
    "top-1": {"num_experts_per_tok": 1, "norm_topk_prob": False},
    "top-2": {},
    "top-2 of 8": {"num_experts": 8},
    "not normalised": {"norm_topk_prob": False},
    "sigmoid": {"scoring_func": "sigmoid", "routed_scaling_factor": 2.5},
    "selection bias": {"scoring_func": "sigmoid", "bias_update_rate": 0.01},
    "groups": {"num_experts": 8, "n_group": 4, "topk_group": 2},
    "shared experts": {"n_shared_experts": 2},
    "sequence balance": {"router_aux_loss_scope": "sequence"},
    "global balance": {"router_aux_loss_scope": "global"},
    "z-loss": {"router_z_loss_coef": 0.01},
    "every other layer": {"decoder_sparse_step": 2},
    "first layer dense": {"first_k_dense_replace": 1},
    "pyramid": {"num_experts_by_layer": (4, 8)},
    "gelu": {"model_type": "gpt2"},
}


@pytest.mark.parametrize(("one_by_one", "stretch"), [(True, 512), (True, 7), (False, 512)])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_dropless_layer_equals_the_plain_loop(
    name: str, one_by_one: bool, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU, with stretches shorter than the batch, and with the grouped products of a GPU."""
    monkeypatch.setattr(experts, "has_grouped_kernel", lambda device, dtype: not one_by_one)
    monkeypatch.setattr(dispatch, "_STRETCH", stretch)
    settings = OPTIONS[name]
    one, other = build("dropless", **settings), build("reference", **settings)
    if settings.get("bias_update_rate"):
        for layer in range(2):  # a bias that changes choices
            bias = torch.tensor([0.2, -0.2, 0.0, 0.1])
            one.model.layers[layer].mlp.gate.e_score_correction_bias = bias
            other.model.layers[layer].mlp.gate.e_score_correction_bias = bias
    tokens, labels = batch()
    losses = []
    for module in (one, other):
        result = module(tokens, labels=labels)
        (result[0] / 32 + result[1]).backward()
        losses.append(result.detach())
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    found, expected = gradients(one), gradients(other)
    assert found.keys() == expected.keys()
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, expected[parameter], atol=1e-5, rtol=1e-5, msg=parameter)


@pytest.mark.parametrize(
    "settings", [{"num_experts_per_tok": 1, "norm_topk_prob": False}, {}, {"num_experts_per_tok": 3}]
)
def test_deepspeeds_layer_without_dropping_equals_the_plain_loop(settings: dict[str, Any]) -> None:
    settings = {**settings, "router_aux_loss_coef": 0.0}
    one = build("deepspeed", **settings, drop_tokens=False, use_rts=False, top2_2nd_expert_sampling=False)
    other = build("reference", **settings)
    tokens, labels = batch()
    for module in (one, other):
        result = module(tokens, labels=labels)
        (result[0] / 32 + result[1]).backward()
    found, expected = gradients(one), gradients(other)
    assert found.keys() == expected.keys()
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, expected[parameter], atol=1e-5, rtol=1e-5, msg=parameter)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_one_by_one_equal_grouped_products(gated: bool, dtype: torch.dtype) -> None:
    loads = torch.tensor([5, 0, 27, 1, 31])  # unequal, one empty
    found = []
    for one_by_one in (True, False):
        generator = torch.Generator().manual_seed(3)
        shapes = [(64, 16), (5, 32, 16), (5, 32, 16), (5, 16, 32)]
        rows, *weights = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
        weights = weights if gated else weights[1:]
        made = through_experts(rows, weights, loads.cumsum(0).int(), one_by_one=one_by_one)
        made.backward(torch.randn(made.shape, generator=generator).to(dtype))
        found.append([made.detach(), rows.grad, *(weight.grad for weight in weights)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert not found[0][2][1].any(), "an expert without rows has a gradient of zero"


def test_experts_without_any_row_have_gradients_of_zero() -> None:
    """As on a rank whose experts nobody is sent to; without grouped products, wherever it is."""
    weights = [torch.ones(shape, requires_grad=True) for shape in ((3, 24, 16), (3, 24, 16), (3, 16, 24))]
    rows = torch.ones(0, 16, requires_grad=True)
    with (
        patch.object(experts, "has_grouped_kernel", lambda device, dtype: True),
        patch.object(torch.nn.functional, "grouped_mm", side_effect=AssertionError("asked for no rows")),
    ):
        made = through_experts(rows, weights, torch.zeros(3, dtype=torch.int32))
        made.sum().backward()
    assert made.shape == rows.shape
    assert all(weight.grad is not None and not weight.grad.any() for weight in weights)


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "grouped"),
    [
        ("cpu", torch.bfloat16, (9, 0), False),
        ("meta", torch.bfloat16, (9, 0), True),
        ("cuda", torch.bfloat16, (9, 0), True),
        ("cuda", torch.float16, (9, 0), False),
        ("cuda", torch.bfloat16, (8, 9), False),
        ("cuda", torch.bfloat16, (10, 0), False),
    ],
)
def test_grouped_products_are_taken_where_torch_has_a_kernel_that_is_right(
    device: str, dtype: torch.dtype, capability: tuple[int, int], grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert experts.has_grouped_kernel(torch.device(device), dtype) == grouped
