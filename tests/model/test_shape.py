"""Parameters and FLOPs by arithmetic against the built model."""

import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zhgpt.model.initialise import initialise_weights
from zhgpt.model.shape import count_parameters, decoder_shape, flops_per_token, hidden_matrices
from zhgpt.model.transformer import CausalLM
from zhgpt.train.parameter_roles import role_of

TYPES = ("gpt2", "llama", "qwen3")


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_count_equals_the_parameters_of_the_built_model(section, model_type: str, tied: bool) -> None:
    model = section(model_type, tie_word_embeddings=tied)
    module = CausalLM(model, "sdpa")
    count = count_parameters(model)
    tables = [
        p for name, p in module.named_parameters() if "embed_tokens" in name or "embed_pos" in name or "lm_" in name
    ]
    assert count.total == sum(p.numel() for p in module.parameters())
    assert count.embedding == sum(p.numel() for p in tables)
    assert count.non_embedding == count.total - count.embedding


OPTIONS = [
    ("gpt2", {"position_embedding": "rope", "num_key_value_heads": 2, "embedding_norm": True}),
    ("gpt2", {"use_qk_norm": True}),
    ("qwen3", {"embedding_norm": True, "use_qk_norm": False}),
]


@pytest.mark.parametrize(("model_type", "options"), OPTIONS)
def test_the_count_follows_the_options(section, model_type: str, options: dict[str, object]) -> None:
    model = section(model_type, **options)
    assert count_parameters(model).total == sum(p.numel() for p in CausalLM(model, "sdpa").parameters())


@pytest.mark.parametrize(("model_type", "options"), [*((model_type, {}) for model_type in TYPES), *OPTIONS])
def test_flops_equal_what_torch_counts_for_forward_and_backward(section, model_type: str, options) -> None:
    """The reference backend's full square, and the head's three products (one is in place: torch's table lacks it)."""
    model = section(model_type, **options)
    module = CausalLM(model, "reference")
    initialise_weights(module, model, seed=1)
    tokens = torch.zeros(2, 32, dtype=torch.int64)
    in_place = {torch.ops.aten.addmm_: lambda total, left, right, **_: 2 * left[0] * left[1] * right[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        module(tokens, tokens).backward()
    assert counter.get_total_flops() == 64 * flops_per_token(model, 32)


@pytest.mark.parametrize(("model_type", "options"), [*((model_type, {}) for model_type in TYPES), *OPTIONS])
def test_hidden_matrices_are_those_that_muon_steps(section, model_type: str, options) -> None:
    model = section(model_type, **options)
    named = CausalLM(model, "sdpa").named_parameters()
    sizes = Counter(tuple(parameter.shape) for name, parameter in named if role_of(name, parameter) == "hidden")
    assert hidden_matrices(model) == sizes


def test_a_published_size_comes_out(section) -> None:
    """GPT-2 small has 124,439,808 parameters with its own vocabulary of 50,257."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12}
    more = {"head_dim": 64, "intermediate_size": 3072, "max_position_embeddings": 1024, "pad_vocab_size_multiple": 1}
    assert count_parameters(section("gpt2", vocab_size=50257, **sizes, **more)).total == 124_439_808


def test_an_unresolved_section_is_refused_by_name(section) -> None:
    with pytest.raises(AssertionError, match=r"model\.head_dim is not resolved"):
        decoder_shape(section(head_dim=None))


def test_the_arithmetic_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import zhgpt.model.shape"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
