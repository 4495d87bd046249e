"""Exports of mixtures of experts: each class computes what the plain loop computes, for each option it can hold."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from zhgpt.config.moe_section import MoeSection
from zhgpt.errors import BadDataError, SettingError
from zhgpt.export.hf import Probe, export_hf, exported_class
from zhgpt.export.verify import TOLERANCES, compare_logits, verify_export
from zhgpt.model.moe.names import canonical_parts

SIGMOID: dict[str, Any] = {"scoring_func": "sigmoid", "n_shared_experts": 1, "bias_update_rate": 0.01}
GROUPS: dict[str, Any] = {**SIGMOID, "num_experts": 8, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}

# Name -> model type, settings of model.moe, class.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "mixtral": ("llama", {}, "MixtralForCausalLM"),
    "mixtral, top-1": ("llama", {"num_experts_per_tok": 1}, "MixtralForCausalLM"),
    "mixtral, a pyramid of equal counts": ("llama", {"num_experts_by_layer": (8, 8, 8)}, "MixtralForCausalLM"),
    "qwen3": ("qwen3", {}, "Qwen3MoeForCausalLM"),
    "qwen3, top-1 not scaled": ("qwen3", {"num_experts_per_tok": 1, "norm_topk_prob": False}, "Qwen3MoeForCausalLM"),
    "qwen3, top-3 not scaled": ("qwen3", {"num_experts_per_tok": 3, "norm_topk_prob": False}, "Qwen3MoeForCausalLM"),
    "qwen3, every other layer": ("qwen3", {"decoder_sparse_step": 2}, "Qwen3MoeForCausalLM"),
    "qwen3, two dense layers": ("qwen3", {"first_k_dense_replace": 2}, "Qwen3MoeForCausalLM"),
    "dots1": ("qwen3", SIGMOID, "Dots1ForCausalLM"),
    "dots1, no bias": ("qwen3", SIGMOID | {"bias_update_rate": 0.0}, "Dots1ForCausalLM"),
    "dots1, not scaled": ("qwen3", SIGMOID | {"norm_topk_prob": False, "n_shared_experts": 2}, "Dots1ForCausalLM"),
    "dots1, groups": ("qwen3", GROUPS, "Dots1ForCausalLM"),
    "dots1, a dense layer": ("qwen3", GROUPS | {"first_k_dense_replace": 1}, "Dots1ForCausalLM"),
    "glm4_moe": ("llama", SIGMOID, "Glm4MoeForCausalLM"),
    "glm4_moe, groups, a dense layer": ("llama", GROUPS | {"first_k_dense_replace": 1}, "Glm4MoeForCausalLM"),
}


def mixture(section, model_type: str, *, tied: bool = False, layer: str = "reference", **settings: Any):
    """A resolved model section with 4 experts of width 40."""
    values = {"num_experts": 4, "moe_intermediate_size": 40, "layer": layer, **settings}
    return section(model_type, moe=MoeSection(**values), tie_word_embeddings=tied)


def with_biases(module) -> dict[str, torch.Tensor]:
    """The module's canonical weights, after its selection biases were made to change choices."""
    generator = torch.Generator().manual_seed(8)
    for name, mixed in module.named_modules():
        if name.endswith("mlp.gate") and mixed.e_score_correction_bias is not None:
            mixed.e_score_correction_bias = torch.randn(mixed.e_score_correction_bias.shape, generator=generator) * 0.2
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        weights.update(canonical_parts(name, tensor))
    return weights


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tied", [True, False])
def test_each_class_computes_the_same_logits(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path, case: str, tied: bool
) -> None:
    model_type, settings, architecture = CASES[case]
    model = mixture(section, model_type, tied=tied, **settings)
    module = build(model).eval()
    weights = with_biases(module)
    with torch.no_grad():
        expected = module(probe_tokens)
    exported = export_hf(weights, model, tokenizer_dir, tmp_path / "out", probe=Probe(probe_tokens, expected, "fp32"))
    assert exported.architecture == architecture
    assert exported.largest_difference < 2e-4
    assert exported.largest_engine_difference == 0
    assert verify_export(tmp_path / "out", probe_tokens, expected, TOLERANCES["fp32"]) < 2e-4
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(theirs).__name__ == architecture
    assert sum(parameter.numel() for parameter in theirs.parameters()) == exported.parameters


@pytest.mark.parametrize("layer", ["dropless", "deepspeed"])
def test_the_layer_that_trained_is_exported_by_its_canonical_names(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path, layer: str
) -> None:
    """Another implementation than the one that checks, and DeepSpeed's with a capacity that evaluation does not use."""
    model = mixture(section, "qwen3", layer=layer)
    module = build(model).eval()
    with torch.no_grad():
        expected = module(probe_tokens)
    exported = export_hf(
        with_biases(module), model, tokenizer_dir, tmp_path / "out", probe=Probe(probe_tokens, expected, "fp32")
    )
    assert exported.largest_difference < 2e-4
    assert exported.largest_engine_difference is not None
    assert exported.largest_engine_difference < 2e-4


def test_experts_are_written_one_by_one_under_the_names_of_public_checkpoints(
    section, build, tokenizer_dir, tmp_path: Path
) -> None:
    found = {}
    for model_type in ("llama", "qwen3"):
        model = mixture(section, model_type)
        export_hf(with_biases(build(model)), model, tokenizer_dir, tmp_path / model_type)
        found[model_type] = load_file(tmp_path / model_type / "model.safetensors")
    mixtral, qwen3 = found["llama"], found["qwen3"]
    assert mixtral["model.layers.0.block_sparse_moe.experts.3.w1.weight"].shape == (40, 64)
    assert mixtral["model.layers.0.block_sparse_moe.experts.3.w2.weight"].shape == (64, 40)
    assert mixtral["model.layers.0.block_sparse_moe.gate.weight"].shape == (4, 64)
    assert not any(".mlp." in name for name in mixtral)
    assert qwen3["model.layers.2.mlp.experts.3.down_proj.weight"].shape == (64, 40)


def test_the_config_says_which_layers_are_dense(section, build, tokenizer_dir, tmp_path: Path) -> None:
    """Layers 0 to 4 of step 2 after three dense ones: 3 alone is a mixture, and 1 must be named."""
    settings = {"decoder_sparse_step": 2, "first_k_dense_replace": 2}
    values = {"num_experts": 4, "moe_intermediate_size": 40, "layer": "reference", **settings}
    model = section("qwen3", num_hidden_layers=5, moe=MoeSection(**values))
    export_hf(with_biases(build(model)), model, tokenizer_dir, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["decoder_sparse_step"], config["mlp_only_layers"]) == (2, [1])
    assert (config["intermediate_size"], config["moe_intermediate_size"]) == (96, 40)


def test_a_selection_bias_stays_fp32_in_a_bf16_file(section, build, tokenizer_dir, tmp_path: Path) -> None:
    model = mixture(section, "qwen3", **SIGMOID)
    weights = with_biases(build(model))
    export_hf(weights, model, tokenizer_dir, tmp_path / "out", dtype="bfloat16")
    written = load_file(tmp_path / "out" / "model.safetensors")
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    assert written["model.layers.1.mlp.gate.weight"].dtype == torch.bfloat16
    assert torch.equal(written[name], weights[name])
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()[name].dtype == torch.float32


def test_a_bf16_engine_may_route_near_ties_otherwise_but_not_be_another_model(
    section, build, tokenizer_dir, probe_tokens, tmp_path: Path
) -> None:
    """Here one position in eighty goes to another expert; in fp32 it would be a difference, and it is one too many."""
    model = mixture(section, "qwen3", num_experts=16)
    module = build(model).eval()
    weights = {name: tensor.clone() for name, tensor in with_biases(module).items()}
    with torch.no_grad():
        expected = module(probe_tokens)
        engine = module.bfloat16()(probe_tokens)
    with pytest.raises(BadDataError, match="differ from the engine's"):
        compare_logits(expected, engine, TOLERANCES["bf16"], "all positions")
    probe = Probe(probe_tokens, engine, "bf16")
    exported = export_hf(weights, model, tokenizer_dir, tmp_path / "right", probe=probe)
    assert exported.largest_engine_difference is not None
    assert exported.largest_engine_difference > 0.1 > 2e-4 > exported.largest_difference
    weights["model.layers.1.mlp.gate.weight"] = weights["model.layers.0.mlp.gate.weight"]
    with pytest.raises(BadDataError, match="this is not the model that was trained"):
        export_hf(weights, model, tokenizer_dir, tmp_path / "wrong", probe=probe)


NOWHERE: dict[str, tuple[str, dict[str, Any], str]] = {
    "a residual expert": ("qwen3", {"layer": "deepspeed", "use_residual": True}, r"residual expert.*use_residual"),
    "a pyramid": ("qwen3", {"num_experts_by_layer": (4, 8, 8)}, "one number of experts for all layers"),
    "gpt2": ("gpt2", {}, "no class has GPT-2's layers with experts"),
    "a dense layer without norms": (
        "llama",
        {"first_k_dense_replace": 1},
        "MixtralForCausalLM: it has no dense layers",
    ),
}


@pytest.mark.parametrize("case", NOWHERE)
def test_a_model_that_no_class_holds_is_refused_with_the_reason(
    section, tokenizer_dir, tmp_path: Path, case: str
) -> None:
    model_type, settings, reason = NOWHERE[case]
    model = mixture(section, model_type, **settings)
    with pytest.raises(SettingError, match=f"this model exports to no transformers class: .*{reason}"):
        exported_class(model)
    with pytest.raises(SettingError, match=reason):
        export_hf({}, model, tokenizer_dir, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
