"""What muP scales by width, and that a step then moves a wide model's logits as far as a narrow one's."""

import pytest
import torch
from torch.nn import functional

from zhgpt.config.schema import ModelSection, OptimSection
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.shape import decoder_shape
from zhgpt.model.transformer import CausalLM
from zhgpt.model.width_scaling import WidthMultipliers, width_multipliers
from zhgpt.train.optimizer import parameter_groups

BASE = 32


def at_width(width: int, *, mup: bool) -> ModelSection:
    return ModelSection(
        model_type="llama",
        vocab_size=64,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 16,
        head_dim=16,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        initializer_range=0.2,
        mup_base_width=BASE if mup else None,
    )


@pytest.mark.parametrize(
    ("name", "dimensions", "multipliers"),
    [
        ("model.layers.0.self_attn.q_proj.weight", 2, WidthMultipliers(0.5, 0.25, 4.0)),
        ("model.layers.1.mlp.deepspeed_moe.experts.up_proj", 3, WidthMultipliers(0.5, 0.25, 4.0)),
        ("model.layers.1.mlp.gate.weight", 2, WidthMultipliers(0.5, 0.25, 4.0)),
        ("model.embed_tokens.weight", 2, WidthMultipliers()),
        ("model.embed_positions.weight", 2, WidthMultipliers()),
        ("lm_head.weight", 2, WidthMultipliers()),
        ("model.norm.weight", 1, WidthMultipliers()),
        ("model.layers.0.self_attn.q_proj.bias", 1, WidthMultipliers()),
    ],
)
def test_only_matrices_of_layers_are_scaled(name: str, dimensions: int, multipliers: WidthMultipliers) -> None:
    assert width_multipliers(name, dimensions, 4.0) == multipliers
    assert width_multipliers(name, dimensions, 1.0) == WidthMultipliers()


def test_an_orthogonal_step_needs_the_root() -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    assert width_multipliers(name, 2, 4.0, "muon") == WidthMultipliers(0.5, 0.5, 2.0)


def test_at_the_base_width_nothing_changes() -> None:
    tokens = torch.arange(16)[None]
    found = []
    for mup in (False, True):
        model = at_width(BASE, mup=mup)
        module = CausalLM(model, "sdpa")
        initialise_weights(module, model, seed=1)
        found.append(module(tokens))
    assert torch.equal(*found)


def moved_logits(width: int, *, mup: bool) -> float:
    """Root mean square by which three of AdamW's steps change the logits."""
    model = at_width(width, mup=mup)
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, seed=1)
    groups = parameter_groups(
        module, OptimSection(learning_rate=0.01, weight_decay=0), decoder_shape(model).width_ratio
    )
    for group in groups:
        group["lr"] = 0.01 * group["rate_factor"]
    optimizer = torch.optim.AdamW(groups)
    tokens = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(2))
    before = module(tokens[:, :-1]).detach()
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    return float((module(tokens[:, :-1]).detach() - before).square().mean().sqrt())


def test_a_step_moves_the_logits_of_a_wide_model_as_far_as_those_of_a_narrow_one() -> None:
    narrow, wide = 4 * BASE, 16 * BASE
    assert 0.6 < moved_logits(wide, mup=True) / moved_logits(narrow, mup=True) < 1.6
    assert moved_logits(wide, mup=False) / moved_logits(narrow, mup=False) > 2
