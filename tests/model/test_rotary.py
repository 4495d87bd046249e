"""Frequencies of rotary positions against transformers' own."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from zhgpt.config.rope_section import RopeScalingSection
from zhgpt.model.rotary import attention_factor, frequencies
from zhgpt.model.shape import decoder_shape

LONG = {"original_max_position_embeddings": 1000}


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "dynamic", "factor": 3.0},
        {"rope_type": "yarn", "factor": 3.0, **LONG},
        {"rope_type": "yarn", "factor": 40.0, **LONG, "beta_fast": 20.0, "beta_slow": 3.0},
        {"rope_type": "llama3", "factor": 7.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **LONG},
        {"rope_type": "llama3", "factor": 7.0, "low_freq_factor": 2.0, "high_freq_factor": 30.0, **LONG},
    ],
)
def test_scaled_frequencies_and_factor_are_those_of_transformers(section, scaling: dict[str, Any]) -> None:
    ours = RopeScalingSection(**scaling)
    sizes = {"head_dim": 64, "max_position_embeddings": 3000, "rope_theta": 20000.0}
    shape = decoder_shape(section("llama", rope_scaling=ours, **sizes))
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=3000,
        rope_parameters={"rope_theta": 20000.0, **scaling},
    )
    expected, factor = ROPE_INIT_FUNCTIONS[ours.rope_type](config, torch.device("cpu"), seq_len=5000)
    found = frequencies(torch.arange(5000)[None], shape)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert attention_factor(ours) == pytest.approx(factor)
    plain = frequencies(torch.arange(5000)[None], decoder_shape(section("llama", **sizes)))
    assert not torch.allclose(found, plain, rtol=1e-2)
