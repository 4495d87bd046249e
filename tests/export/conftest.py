"""A tokenizer and small models to export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron_style_data.tokenizer import train_bpe
from zhgpt.config.schema import ModelSection
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM

TEXTS = [
    "村民们都很高兴，在山上种了一千二百棵树。“你来了？”他说，“等等……”",
    "第一条　为了保护公民的权利，制定本法。第二条 适用于2024年12月31日以前。",
    "却说曹操引军追赶，玄德大败而走。" * 3,
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of 330 ids."""
    folder = tmp_path_factory.mktemp("tokenizers") / "bpe"
    train_bpe(TEXTS, 330, folder)
    return folder


@pytest.fixture(scope="session")
def section() -> Callable[..., ModelSection]:
    """A small resolved model section; keywords replace its fields. Large weights, so that every path matters."""

    def make(model_type: str = "qwen3", **fields: Any) -> ModelSection:
        sizes: dict[str, Any] = {
            "vocab_size": 330,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4 if model_type == "gpt2" else 2,
            "head_dim": 16 if model_type == "gpt2" else 24,
            "intermediate_size": 96,
            "max_position_embeddings": 64,
            "initializer_range": 0.2,
        }
        if model_type != "gpt2":
            sizes |= {"rope_theta": 5000.0, "rms_norm_eps": 1e-5}
        return ModelSection(model_type=model_type, **(sizes | fields))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def build() -> Callable[[ModelSection], CausalLM]:
    """A model whose every parameter is random: norms and biases too, so that a swapped one shows."""

    def make(model: ModelSection) -> CausalLM:
        module = CausalLM(model, "sdpa")
        initialise_weights(module, model, seed=5)
        generator = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if "norm" in name or name.endswith("bias"):
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return module

    return make


@pytest.fixture(scope="session")
def probe_tokens() -> torch.Tensor:
    """(2, 40) ids."""
    return torch.randint(0, 330, (2, 40), generator=torch.Generator().manual_seed(7))
