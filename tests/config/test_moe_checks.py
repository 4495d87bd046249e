"""What cannot go together in a mixture of experts, each with its sentence."""

from typing import Any

import pytest

from zhgpt.config.moe_checks import experts_in, mixture_layers, moe_problems
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection


def model(**settings: Any) -> ModelSection:
    sizes = {key: settings.pop(key) for key in ("hidden_size", "intermediate_size") if key in settings}
    return ModelSection(num_hidden_layers=4, moe=MoeSection(**{"num_experts": 8, **settings}), **sizes)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"routing": "expert_choice"}, "an expert would choose among the tokens of a sequence, later ones among them"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok 9 is more than the 8 experts"),
        ({"n_group": 3, "topk_group": 1}, "n_group 3 does not cut 8 experts into equal groups"),
        ({"n_group": 8}, "n_group 8 does not cut 8 experts into equal groups of at least 2"),
        ({"n_group": 2, "topk_group": 3}, "topk_group 3 is more than model.moe.n_group 2"),
        ({"n_group": 4, "num_experts_per_tok": 3}, "num_experts_per_tok 3 is more than the 2 experts of"),
        ({"capacity_factor": 1.5}, "capacity_factor 1.5 has no effect in the dropless layer"),
        (
            {"layer": "deepspeed", "scoring_func": "sigmoid"},
            "scoring_func sigmoid has no effect in the deepspeed layer",
        ),
        ({"layer": "deepspeed", "num_experts_per_tok": 1}, "never scales the weights at top-1; set it to false"),
        ({"layer": "deepspeed", "norm_topk_prob": False}, "always scales the weights at top-2; set it to true"),
        ({"routed_scaling_factor": 2.0}, "routed_scaling_factor 2 is for sigmoid scores"),
        ({"first_k_dense_replace": 4}, "no layer of 4 is a mixture"),
        ({"num_experts_by_layer": [4, 8]}, "has 2 numbers, but 4 layers are mixtures"),
        ({"num_experts_by_layer": [1, 8, 8, 8]}, "num_experts_per_tok 2 is more than the 1 experts"),
        ({"hidden_size": 84}, "model.hidden_size 84 is not a multiple of 8"),
        ({"moe_intermediate_size": 100}, "model.moe.moe_intermediate_size 100 is not a multiple of 8"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(settings: dict[str, Any], sentence: str) -> None:
    problems = moe_problems(model(**settings))
    assert any(sentence in problem for problem in problems), problems


def test_a_mixture_that_can_be_has_no_problems() -> None:
    assert moe_problems(model()) == []
    assert moe_problems(model(n_group=4, topk_group=2, scoring_func="sigmoid", n_shared_experts=1)) == []
    assert moe_problems(ModelSection()) == []


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({}, [0, 1, 2, 3]),
        ({"decoder_sparse_step": 2}, [1, 3]),
        ({"first_k_dense_replace": 1}, [1, 2, 3]),
        ({"first_k_dense_replace": 2, "decoder_sparse_step": 2}, [3]),
    ],
)
def test_which_layers_are_mixtures(settings: dict[str, Any], layers: list[int]) -> None:
    moe = MoeSection(num_experts=8, **settings)
    assert mixture_layers(moe, 4) == layers
    assert experts_in(moe, 4) == dict.fromkeys(layers, 8)


def test_a_pyramid_has_a_number_of_experts_for_each_mixture() -> None:
    moe = MoeSection(num_experts=8, num_experts_by_layer=(4, 16), decoder_sparse_step=2)
    assert experts_in(moe, 4) == {1: 4, 3: 16}
