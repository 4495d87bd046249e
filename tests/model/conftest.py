"""Small resolved models and packed batches for the tests of the decoder."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from zhgpt.config.schema import ModelSection
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM


@dataclass(frozen=True)
class PackedBatch:
    """Two sequences of 24 tokens: documents of 9 and 15 tokens in the first, 24 tokens in the second."""

    tokens: Tensor
    labels: Tensor
    position_ids: Tensor
    document_ids: Tensor


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def section() -> Callable[..., ModelSection]:
    """A small model section as resolve_model leaves it; keywords replace its fields."""

    def make(model_type: str = "qwen3", **fields: Any) -> ModelSection:
        sizes: dict[str, Any] = {
            "vocab_size": 500,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4 if model_type == "gpt2" else 2,
            "head_dim": 16,
            "intermediate_size": 96,
            "max_position_embeddings": 48,
            "initializer_range": 0.1,
        }
        return ModelSection(model_type=model_type, **(sizes | fields))  # type: ignore[arg-type]

    return make


@pytest.fixture
def build() -> Callable[..., CausalLM]:
    """A model with its first weights."""

    def make(model: ModelSection, backend: str = "sdpa", *, activation_checkpointing: bool = False) -> CausalLM:
        module = CausalLM(model, backend, activation_checkpointing=activation_checkpointing)
        initialise_weights(module, model, seed=7)
        return module

    return make


@pytest.fixture
def packed() -> PackedBatch:
    """A packed micro batch with one position without a target."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, 500, (2, 24), generator=generator)
    labels = torch.randint(0, 500, (2, 24), generator=generator)
    labels[1, 5] = -100
    document_ids = torch.zeros(2, 24, dtype=torch.int64)
    document_ids[0, 9:] = 1
    position_ids = torch.arange(24).repeat(2, 1)
    position_ids[0, 9:] -= 9
    return PackedBatch(tokens, labels, position_ids, document_ids)
