"""Small resolved models and packed batches for the tests of the decoder."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
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

    def make(model: ModelSection, backend: str = "sdpa", **settings: Any) -> CausalLM:
        module = CausalLM(model, backend, **settings)
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


STAND_INS = str(Path(__file__).parent / "stand_ins")


@pytest.fixture(scope="session")
def flash_kernels() -> ModuleType:
    """The stand-in for flash-attn's compiled extension, under flash-attn's real Python layer where that is installed.

    It is importable only for a moment, so that the choice of a backend never takes it for the real one.
    """
    if importlib.util.find_spec("flash_attn_2_cuda") is not None:
        pytest.skip("flash-attn's compiled kernels are installed: test_attention_gpu.py runs those")
    sys.path.insert(0, STAND_INS)
    try:
        kernels = importlib.import_module("flash_attn_2_cuda")
        if importlib.util.find_spec("flash_attn") is not None:
            importlib.import_module("flash_attn.flash_attn_interface")
    finally:
        sys.path.remove(STAND_INS)
        sys.modules.pop("flash_attn_2_cuda", None)
    return kernels


@pytest.fixture(scope="session")
def flash2_on_cpu(flash_kernels: ModuleType) -> ModuleType:
    """flash-attn's real Python layer (autograd, padding, custom ops) over the stand-in kernels."""
    interface = sys.modules.get("flash_attn.flash_attn_interface")
    if interface is None:
        pytest.skip("flash-attn is not installed: its Python layer cannot be run over the stand-in kernels")
    for operator in (interface._flash_attn_varlen_forward, interface._flash_attn_varlen_backward):
        operator.register_kernel("cpu")(operator._init_fn)
    return flash_kernels


@pytest.fixture(scope="session")
def torch_varlen_on_cpu(flash_kernels: ModuleType) -> Iterator[ModuleType]:
    """torch's real varlen_attn layer over the stand-in kernels, registered as aten's CPU ones."""

    def forward(q, k, v, starts_q, starts_k, max_q, max_k, dropout, causal, debug, **options):  # type: ignore[no-untyped-def]
        assert dropout == 0.0
        scale = options.get("scale") or q.shape[-1] ** -0.5
        window = options["window_size_left"], options["window_size_right"]
        empty = q.new_empty(0)
        out, log_sums, _, state = flash_kernels.varlen_fwd(
            q, k, v, None, starts_q, starts_k, None, None, None, None,
            max_q, max_k, 0.0, scale, False, causal, *window, 0.0, False, None,
        )  # fmt: skip
        return out, log_sums, state, empty, empty

    def backward(d_out, q, k, v, out, log_sums, starts_q, starts_k, max_q, max_k, dropout, causal, *state, **options):  # type: ignore[no-untyped-def]
        scale = options.get("scale") or q.shape[-1] ** -0.5
        window = options["window_size_left"], options["window_size_right"]
        gradients = [torch.empty_like(x) for x in (q, k, v)]
        flash_kernels.varlen_bwd(
            d_out, q, k, v, out, log_sums, *gradients, starts_q, starts_k, None,
            max_q, max_k, dropout, scale, False, causal, *window, 0.0, False, None, None,
        )  # fmt: skip
        return tuple(gradients)

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    yield flash_kernels
    library._destroy()
