"""First weights: their scale, and what they do not depend on."""

import math

import pytest
import torch

from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM


def weights(model, seed: int = 1) -> dict[str, torch.Tensor]:
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, seed)
    return dict(module.named_parameters())


@pytest.mark.parametrize("model_type", ["gpt2", "qwen3"])
def test_each_kind_of_parameter_gets_its_first_values(section, model_type: str) -> None:
    model = section(model_type, initializer_range=0.02, hidden_size=256, head_dim=64, intermediate_size=512)
    for name, parameter in weights(model).items():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        elif "norm" in name:
            assert bool((parameter == 1).all()), name
        else:
            scale = 0.02 / math.sqrt(2 * 2) if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
            rows = 500 if "embed_tokens" in name else parameter.shape[0]
            assert parameter[:rows].std().item() == pytest.approx(scale, rel=0.03), name


def test_padded_rows_start_at_zero_and_the_others_do_not_depend_on_the_padding(section) -> None:
    plain, padded = weights(section(pad_vocab_size_multiple=1)), weights(section(pad_vocab_size_multiple=64))
    assert padded["model.embed_tokens.weight"][500:].abs().max() == 0
    assert torch.equal(padded["model.embed_tokens.weight"][:500], plain["model.embed_tokens.weight"])


def test_weights_depend_on_seed_and_name_alone(section) -> None:
    torch.manual_seed(1)
    first = weights(section())
    torch.manual_seed(2)
    deeper = weights(section(tie_word_embeddings=False))
    assert all(torch.equal(first[name], deeper[name]) for name in first)
    other = weights(section(), seed=2)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    one, two = (first[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in (0, 1))
    assert not torch.equal(one, two)


def test_bf16_weights_are_the_rounded_fp32_ones(section) -> None:
    model = section()
    module = CausalLM(model, "sdpa").to(torch.bfloat16)
    initialise_weights(module, model, seed=1)
    for name, parameter in weights(model).items():
        assert torch.equal(module.get_parameter(name), parameter.to(torch.bfloat16)), name


@pytest.mark.parametrize(
    ("residual_init", "factors"),
    [("scaled", (0.5, 0.5)), ("by_depth", (2**-0.5, 0.5)), ("plain", (1.0, 1.0)), ("zero", (0.0, 0.0))],
)
def test_projections_into_the_residual_stream_begin_as_asked(section, residual_init: str, factors) -> None:
    """Factors of the deviation in both layers; other matrices keep theirs."""
    model = section(residual_init=residual_init, hidden_size=256, intermediate_size=512)
    plain = weights(section(residual_init="plain", hidden_size=256, intermediate_size=512))
    for name, parameter in weights(model).items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            factor = factors[int(name.split(".")[2])]
            torch.testing.assert_close(parameter, plain[name] * factor, rtol=1e-5, atol=1e-8, msg=name)
        else:
            assert torch.equal(parameter, plain[name]), name


def test_wide_matrices_begin_smaller_and_tables_do_not(section) -> None:
    plain, scaled = weights(section()), weights(section(mup_base_width=16))
    for name, parameter in scaled.items():
        factor = 0.5 if "_proj" in name else 1.0
        torch.testing.assert_close(parameter, plain[name] * factor, rtol=1e-5, atol=1e-8, msg=name)
