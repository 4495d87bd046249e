"""Scaling of rotary positions: trained on one length, read at a longer one."""

from typing import Literal

from pydantic import Field

from zhgpt.config.section import Real, Section, Whole


class RopeScalingSection(Section):
    """Scaled frequencies of rotary positions, under transformers' names (`rope_parameters`)."""

    rope_type: Literal["linear", "dynamic", "yarn", "llama3"]
    """How frequencies are scaled: all alike; by the length of the sequence, past max_position_embeddings only; slow ones
    alone, by a ramp (YaRN, arXiv 2309.00071); slow ones alone, by wavelength (Llama 3.1)."""
    factor: Real = Field(ge=1)
    """How much longer sequences may be than those of original_max_position_embeddings."""
    original_max_position_embeddings: Whole | None = Field(default=None, gt=0)
    """Length that the frequencies were made for (yarn, llama3). Left out: model.max_position_embeddings."""
    attention_factor: Real | None = Field(default=None, gt=0)
    """Factor of cosine and sine (yarn). Left out: 0.1 ln(factor) + 1."""
    beta_fast: Real = Field(default=32.0, gt=0)
    """Pairs that turn more often than this over the original length stay as they are (yarn)."""
    beta_slow: Real = Field(default=1.0, gt=0)
    """Pairs that turn less often than this are divided by the factor (yarn)."""
    low_freq_factor: Real = Field(default=1.0, gt=0)
    """Wavelengths above the original length over this are stretched by the factor (llama3)."""
    high_freq_factor: Real = Field(default=4.0, gt=0)
    """Wavelengths below the original length over this stay as they are (llama3)."""
