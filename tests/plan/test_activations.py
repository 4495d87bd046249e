"""Counted activations against what autograd really saves."""

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zhgpt.config.schema import ModelSection
from zhgpt.model import blocked_attention, loss, packing
from zhgpt.model.transformer import CausalLM
from zhgpt.plan.activations import (
    ATTENTION_BLOCK,
    KEPT_ATTENTION_BYTES,
    LOSS_CHUNK_ENTRIES,
    LOSS_FP32_ENTRIES,
    LOSS_PRODUCT_ROWS,
    activations,
)

B, S = 2, 128


def model_of(model_type: str, key_value_heads: int) -> ModelSection:
    return ModelSection(
        model_type=model_type,  # type: ignore[arg-type]
        vocab_size=1000,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        head_dim=64,
        intermediate_size=704,
        max_position_embeddings=S,
    )


def saved_bytes(model: ModelSection, dtype: torch.dtype, recomputed: tuple[int, ...] = ()) -> int:
    """Bytes of all storages that autograd keeps between the decoder's forward and backward pass, weights left out."""
    module = CausalLM(model, "blocked", activation_checkpointing=recomputed).to(dtype)
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        module.model(torch.zeros(B, S, dtype=torch.int64), None, None)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("model_type", "key_value_heads", "dtype"),
    [
        ("qwen3", 2, torch.bfloat16),
        ("llama", 4, torch.bfloat16),
        ("gpt2", 4, torch.bfloat16),
        ("qwen3", 2, torch.float32),
    ],
)
def test_the_count_is_what_autograd_saves(model_type: str, key_value_heads: int, dtype: torch.dtype) -> None:
    model = model_of(model_type, key_value_heads)
    precision = "fp32" if dtype == torch.float32 else "bf16"
    counted = activations(model, B, S, precision=precision, kernels="cpu").kept
    assert counted == pytest.approx(saved_bytes(model, dtype), rel=0.03)


def test_checkpointing_keeps_a_layer_and_the_inputs_of_all() -> None:
    model = model_of("qwen3", 2)
    whole = activations(model, B, S, precision="bf16", kernels="cpu")
    kept = activations(model, B, S, precision="bf16", kernels="cpu", recomputed_layers=range(4))
    assert kept.kept < whole.kept / 3
    assert 0 < kept.layer < whole.kept / 3


def test_layers_that_are_not_computed_again_keep_theirs() -> None:
    model = model_of("llama", 4)
    counted = activations(model, B, S, precision="bf16", kernels="cpu", recomputed_layers=(1, 3)).kept
    assert counted == pytest.approx(saved_bytes(model, torch.bfloat16, (1, 3)), rel=0.03)


def test_attention_weights_are_kept_while_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama", 4)
    few = activations(model, B, S, precision="bf16", kernels="cpu").kept
    monkeypatch.setattr("zhgpt.plan.activations.KEPT_ATTENTION_BYTES", 1000)
    monkeypatch.setattr(blocked_attention, "KEPT_BYTES", 1000)
    none = activations(model, B, S, precision="bf16", kernels="cpu").kept
    assert few - none == 4 * (B * 4 * S * S * 2)  # layers x one whole block of queries
    assert none == pytest.approx(saved_bytes(model, torch.bfloat16), rel=0.03)


def test_the_chunk_of_logits_is_that_of_the_loss() -> None:
    assert loss.CHUNK_ENTRIES == LOSS_CHUNK_ENTRIES
    assert {"cpu": LOSS_PRODUCT_ROWS} == loss.PRODUCT_ROWS
    assert {"cuda": LOSS_CHUNK_ENTRIES, **loss.FP32_ENTRIES} == LOSS_FP32_ENTRIES
    assert (blocked_attention.KEPT_BYTES, packing.QUERY_BLOCK) == (KEPT_ATTENTION_BYTES, ATTENTION_BLOCK)


def test_fused_norms_keep_less_than_those_of_the_cpu() -> None:
    model = model_of("qwen3", 2)
    kept = [activations(model, B, S, precision="bf16", kernels=kernels).kept for kernels in ("cuda", "cpu")]  # type: ignore[arg-type]
    assert kept[0] < kept[1]


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that were made inside and still live, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most, self.seen = 0, 0, set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            x.untyped_storage()._cdata for x in torch.utils._pytree.tree_leaves(args) if isinstance(x, torch.Tensor)
        }
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), given)
        return result

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        if storage._cdata in given or storage._cdata in self.seen:
            return
        self.seen.add(storage._cdata)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, address: int, size: int) -> None:
        self.seen.discard(address)
        self.now -= size


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_holds_one_chunk_at_a_time(precision: str) -> None:
    """On the meta device, where chunks are those of a GPU: four of them, and what one takes at its fullest."""
    model = model_of("llama", 4).model_copy(update={"vocab_size": 32_000, "pad_vocab_size_multiple": 1})
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    hidden = torch.empty(1, 4096, 256, device="meta", dtype=dtype, requires_grad=True)
    weight = torch.empty(32_000, 256, device="meta", dtype=dtype, requires_grad=True)
    labels = torch.empty(1, 4096, device="meta", dtype=torch.int64)
    with LiveBytes() as live:
        loss.linear_cross_entropy(hidden, weight, labels, 32_000)
    counted = activations(model, 1, 4096, precision=precision, kernels="cuda")
    assert live.most == pytest.approx(counted.logits + counted.head_gradient, rel=0.03)
