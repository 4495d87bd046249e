"""Parameters and FLOPs of mixtures, against the modules and by hand."""

from collections import Counter
from typing import Any

import pytest
from tiny_mixture import build, tiny_mixture

from zhgpt.model.shape import count_parameters, flops_per_token, hidden_matrices
from zhgpt.train.parameter_roles import role_of

MIXTURES = pytest.mark.parametrize(
    ("layer", "model_type", "settings"),
    [
        ("dropless", "qwen3", {}),
        ("dropless", "gpt2", {}),
        ("dropless", "llama", {"n_shared_experts": 2, "first_k_dense_replace": 1}),
        ("dropless", "qwen3", {"num_experts_by_layer": (4, 8)}),
        ("deepspeed", "qwen3", {}),
        ("deepspeed", "qwen3", {"num_experts_per_tok": 1, "norm_topk_prob": False, "use_residual": True}),
        ("reference", "qwen3", {"n_shared_experts": 1}),
    ],
)


@MIXTURES
def test_parameters_are_those_of_the_module(layer: str, model_type: str, settings: dict[str, Any]) -> None:
    module = build(layer, model_type, **settings)
    counted = count_parameters(tiny_mixture(layer, model_type, **settings))
    assert counted.total == sum(parameter.numel() for parameter in module.parameters())


@MIXTURES
def test_matrices_of_experts_are_counted_one_by_one(layer: str, model_type: str, settings: dict[str, Any]) -> None:
    sizes: Counter[tuple[int, ...]] = Counter()
    for name, parameter in build(layer, model_type, **settings).named_parameters():
        if role_of(name, parameter) == "hidden":
            sizes[tuple(parameter.shape[-2:])] += parameter[..., 0, 0].numel()
    assert hidden_matrices(tiny_mixture(layer, model_type, **settings)) == sizes


def test_active_parameters_leave_out_the_experts_a_token_is_not_sent_to() -> None:
    counted = count_parameters(tiny_mixture("dropless"))
    assert counted.total - counted.active == 2 * (4 - 2) * 3 * 32 * 24
    dense = count_parameters(tiny_mixture("dropless").model_copy(update={"moe": None}))
    assert dense.active == dense.total


def test_flops_are_those_of_a_dense_model_of_the_active_width_and_the_router() -> None:
    mixture = tiny_mixture("dropless", moe_intermediate_size=24)
    dense = mixture.model_copy(update={"moe": None, "intermediate_size": 48})
    assert flops_per_token(mixture, 16) - flops_per_token(dense, 16) == 6 * 2 * 4 * 32
