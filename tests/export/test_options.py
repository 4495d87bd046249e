"""Options of the architecture: each goes into an ordinary class, folded where that has no place for it, with equal logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from zhgpt.config.moe_section import MoeSection
from zhgpt.config.rope_section import RopeScalingSection
from zhgpt.config.schema import ModelSection
from zhgpt.errors import SettingError
from zhgpt.export.hf import Probe, export_hf, exported_class
from zhgpt.model.transformer import CausalLM

LINEAR = {"rope_type": "linear", "factor": 3.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 3.0}
YARN = {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 20, "beta_fast": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 6.0, "original_max_position_embeddings": 30}
ROPE = {"position_embedding": "rope", "rope_theta": 300.0}

# Name -> model type, settings of the model, class.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2 with rotary positions": ("gpt2", ROPE, "Starcoder2ForCausalLM"),
    "gpt2 with grouped queries": ("gpt2", {**ROPE, "num_key_value_heads": 2}, "Starcoder2ForCausalLM"),
    "llama with normalised queries": ("llama", {"use_qk_norm": True}, "Qwen3ForCausalLM"),
    "qwen3 without": ("qwen3", {"use_qk_norm": False}, "LlamaForCausalLM"),
    "linear": ("llama", {"rope_scaling": LINEAR}, "LlamaForCausalLM"),
    "yarn": ("qwen3", {"rope_scaling": YARN}, "Qwen3ForCausalLM"),
    "yarn, its factor given": ("llama", {"rope_scaling": {**YARN, "attention_factor": 1.5}}, "LlamaForCausalLM"),
    "llama3": ("llama", {"rope_scaling": LLAMA3}, "LlamaForCausalLM"),
    "gpt2 with rotary positions, yarn": ("gpt2", {**ROPE, "rope_scaling": YARN}, "Starcoder2ForCausalLM"),
    "embedding norm, gpt2": ("gpt2", {"embedding_norm": True}, "GPT2LMHeadModel"),
    "embedding norm, qwen3": ("qwen3", {"embedding_norm": True}, "Qwen3ForCausalLM"),
    "embedding norm, untied": ("llama", {"embedding_norm": True, "tie_word_embeddings": False}, "LlamaForCausalLM"),
    "muP, gpt2": ("gpt2", {"mup_base_width": 24}, "GPT2LMHeadModel"),
    "muP, qwen3": ("qwen3", {"mup_base_width": 24}, "Qwen3ForCausalLM"),
    "a mixture, all at once": (
        "llama",
        {"moe": {"num_experts": 4, "layer": "reference"}, "embedding_norm": True, "mup_base_width": 24}
        | {"rope_scaling": YARN},
        "MixtralForCausalLM",
    ),
}
WEIGHTS_ALONE = ("gpt2 with grouped queries", "llama with normalised queries", "qwen3 without")
"""Cases that change which weights there are, so that the model without the option cannot hold them."""


def with_sections(settings: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = dict(settings)
    if "rope_scaling" in made:
        made["rope_scaling"] = RopeScalingSection(**made["rope_scaling"])
    if "moe" in made:
        made["moe"] = MoeSection(**made["moe"], moe_intermediate_size=40)
    return made


def logits_of(module: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = module.eval()(tokens)
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.mark.parametrize("case", CASES)
def test_transformers_computes_the_same_logits_with_the_option_and_others_without(
    section: Callable[..., ModelSection],
    build: Callable[[ModelSection], CausalLM],
    tokenizer_dir: Path,
    probe_tokens: torch.Tensor,
    tmp_path: Path,
    case: str,
) -> None:
    model_type, settings, architecture = CASES[case]
    made = with_sections(settings)
    model = section(model_type, **made)
    module = build(model)
    expected = logits_of(module, probe_tokens)
    probe = Probe(probe_tokens, expected, "fp32")
    exported = export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out", probe=probe)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(theirs).__name__ == exported.architecture == architecture
    torch.testing.assert_close(logits_of(theirs, probe_tokens), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.3
    if case not in WEIGHTS_ALONE:
        plain = CausalLM(
            section(model_type, **{key: made[key] for key in ("moe", "tie_word_embeddings") if key in made}), "sdpa"
        )
        plain.load_state_dict(module.state_dict(), strict=False)
        plain_weights = dict(plain.named_parameters())
        if "model.embed_positions.weight" in plain_weights and "position_embedding" in settings:
            torch.nn.init.zeros_(plain_weights["model.embed_positions.weight"])
        assert (logits_of(plain, probe_tokens) - expected).abs().max() > 0.1, "the option must change the logits"


def test_dynamic_scaling_stretches_sequences_longer_than_the_declared_ones_as_transformers_does(
    section: Callable[..., ModelSection], build: Callable[[ModelSection], CausalLM], tokenizer_dir: Path, tmp_path: Path
) -> None:
    model = section("llama", rope_scaling=RopeScalingSection(**DYNAMIC))
    module = build(model)
    export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    plain = build(section("llama"))
    tokens = torch.randint(0, 330, (1, 100), generator=torch.Generator().manual_seed(9))
    for length in (64, 100):
        expected = logits_of(module, tokens[:, :length])
        torch.testing.assert_close(logits_of(theirs, tokens[:, :length]), expected, rtol=0, atol=1e-4)
        changed = (logits_of(plain, tokens[:, :length]) - expected).abs().max()
        assert (changed > 0.1) == (length > 64)


def test_a_tied_head_leaves_the_folded_table_and_an_untied_one_keeps_its_own(
    section: Callable[..., ModelSection], build: Callable[[ModelSection], CausalLM], tokenizer_dir: Path, tmp_path: Path
) -> None:
    model = section("qwen3", embedding_norm=True)
    module = build(model)
    export_hf(module.state_dict(), model, tokenizer_dir, tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    table = module.get_parameter("model.embed_tokens.weight")[:330]
    assert theirs.config.tie_word_embeddings is False
    assert torch.equal(theirs.get_parameter("lm_head.weight"), table)
    normed = module.model.embed_norm(table)  # type: ignore[misc, operator]
    torch.testing.assert_close(theirs.get_parameter("model.embed_tokens.weight"), normed, rtol=0, atol=1e-6)


def test_an_option_that_no_class_holds_is_refused_by_name(section: Callable[..., ModelSection]) -> None:
    with pytest.raises(
        SettingError, match=r"no class has GPT-2's layers with normalised queries and keys \(use_qk_norm\)"
    ):
        exported_class(section("gpt2", use_qk_norm=True))
