"""Which transformers class holds which mixture, and the reason where none does."""

from typing import Any

import pytest
from tiny_mixture import SIZES, tiny_mixture

from zhgpt.config.schema import ModelSection
from zhgpt.model.shape import decoder_shape
from zhgpt.model.transformers_class import describe_export, export_target

TOP_1 = {"num_experts_per_tok": 1, "norm_topk_prob": False}
SIGMOID = {"scoring_func": "sigmoid", "n_shared_experts": 1}


@pytest.mark.parametrize(
    ("model_type", "settings", "architecture"),
    [
        ("llama", {}, "MixtralForCausalLM"),
        ("qwen3", {}, "Qwen3MoeForCausalLM"),
        ("qwen3", TOP_1, "Qwen3MoeForCausalLM"),
        ("qwen3", {"decoder_sparse_step": 2}, "Qwen3MoeForCausalLM"),
        ("qwen3", {"first_k_dense_replace": 1}, "Qwen3MoeForCausalLM"),
        ("qwen3", SIGMOID, "Dots1ForCausalLM"),
        ("qwen3", {**SIGMOID, "bias_update_rate": 0.001, "first_k_dense_replace": 1}, "Dots1ForCausalLM"),
        ("llama", {**SIGMOID, "num_experts": 8, "n_group": 4, "topk_group": 2}, "Glm4MoeForCausalLM"),
    ],
)
def test_a_mixture_goes_into_the_class_that_computes_it(
    model_type: str, settings: dict[str, Any], architecture: str
) -> None:
    target = export_target(decoder_shape(tiny_mixture("dropless", model_type, **settings)))
    assert (target.architecture, target.reason, str(target)) == (architecture, "", architecture)


@pytest.mark.parametrize(
    ("model_type", "settings", "reason"),
    [
        ("gpt2", {}, "no class has GPT-2's layers with experts"),
        ("llama", TOP_1, "MixtralForCausalLM: it always scales the weights to a sum of 1"),
        ("llama", {"first_k_dense_replace": 1}, "MixtralForCausalLM: it has no dense layers"),
        ("qwen3", {"n_shared_experts": 1}, "Qwen3MoeForCausalLM: it has no shared experts"),
        (
            "qwen3",
            {"num_experts": 8, "n_group": 4, "topk_group": 2},
            "Qwen3MoeForCausalLM: it has no groups of experts",
        ),
        ("qwen3", {"bias_update_rate": 0.1}, "Qwen3MoeForCausalLM: it has no selection bias"),
        ("qwen3", {"scoring_func": "sigmoid"}, "Dots1ForCausalLM: it has at least one shared expert"),
        ("qwen3", {**SIGMOID, "decoder_sparse_step": 2}, "Dots1ForCausalLM: all its layers after the first dense ones"),
        ("qwen3", {"num_experts_by_layer": (4, 8)}, "every class has one number of experts for all layers"),
        ("qwen3", {"layer": "deepspeed", **TOP_1, "use_residual": True}, "no class has a residual expert"),
    ],
)
def test_a_mixture_that_no_class_holds_says_why(model_type: str, settings: dict[str, Any], reason: str) -> None:
    target = export_target(decoder_shape(tiny_mixture(settings.pop("layer", "dropless"), model_type, **settings)))
    assert target.architecture is None
    assert reason in target.reason
    assert str(target) == f"none ({target.reason})"


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM"), ("qwen3", "Qwen3ForCausalLM")],
)
def test_dense_models_have_their_class(model_type: str, architecture: str) -> None:
    sizes = {**SIZES, "num_key_value_heads": 4}
    assert export_target(decoder_shape(ModelSection(model_type=model_type, **sizes))).architecture == architecture


@pytest.mark.parametrize(
    ("model_type", "options", "said"),
    [
        ("gpt2", {"position_embedding": "rope"}, "Starcoder2ForCausalLM"),
        (
            "gpt2",
            {"use_qk_norm": True},
            "none (no class has GPT-2's layers with normalised queries and keys (use_qk_norm))",
        ),
        ("llama", {"use_qk_norm": True}, "Qwen3ForCausalLM"),
        ("qwen3", {"use_qk_norm": False}, "LlamaForCausalLM"),
        (
            "qwen3",
            {"embedding_norm": True, "mup_base_width": 8},
            "Qwen3ForCausalLM; folds the embedding norm into the table, the head apart and the logits' 1/4 into the last norm",
        ),
        (
            "llama",
            {"embedding_norm": True, "tie_word_embeddings": False},
            "LlamaForCausalLM; folds the embedding norm into the table",
        ),
    ],
)
def test_the_start_says_the_class_and_what_is_folded(model_type: str, options: dict[str, Any], said: str) -> None:
    sizes = {**SIZES, "num_key_value_heads": 4}
    assert describe_export(decoder_shape(ModelSection(model_type=model_type, **sizes, **options))) == said


def test_a_mixture_is_told_by_its_queries_not_by_its_model_type() -> None:
    section = tiny_mixture("dropless", "llama").model_copy(update={"use_qk_norm": True})
    assert export_target(decoder_shape(section)).architecture == "Qwen3MoeForCausalLM"
