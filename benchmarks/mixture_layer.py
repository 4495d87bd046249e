"""A mixture of SwiGLU experts, forward and backward, against a dense feed-forward of equal activated FLOPs; one thread, bf16."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.measure import Comparison, compare
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection
from zhgpt.distributed.memory import keep_freed_memory
from zhgpt.model.layers import GatedFeedForward, make_mlp
from zhgpt.model.shape import decoder_shape

HIDDEN, WIDTH = 384, 1024
CASES = (
    # layer, experts, top-k, tokens, skewed
    ("dropless", 8, 1, 4096, False),
    ("dropless", 8, 1, 4096, True),
    ("dropless", 8, 2, 4096, False),
    ("dropless", 8, 2, 4096, True),
    ("dropless", 64, 1, 4096, False),
    ("dropless", 64, 2, 4096, False),
    ("dropless", 64, 1, 1024, False),
    ("deepspeed", 8, 1, 4096, False),
    ("deepspeed", 8, 2, 4096, False),
)


def run() -> list[Comparison]:
    """One row a case. DeepSpeed's own layer keeps its capacity factor of 1.25, so it drops what is past it."""
    torch.set_num_threads(1)
    keep_freed_memory("cpu")
    return [_row(*case) for case in CASES]


def _row(layer: Literal["dropless", "deepspeed"], experts: int, top_k: int, tokens: int, skewed: bool) -> Comparison:
    mixture = _mixture(layer, experts, top_k)
    dense = _drawn(GatedFeedForward(HIDDEN, WIDTH * top_k, bias=False))
    x = torch.randn(1, tokens, HIDDEN, generator=torch.Generator().manual_seed(1)).bfloat16()
    if skewed:
        _skew(mixture, x)
    x.requires_grad_()

    def through_mixture() -> Tensor:
        output, router_loss = mixture(x)
        return output.float().square().mean() + router_loss

    load = "half the tokens on one expert" if skewed else "even load"
    return compare(
        f"{layer} mixture, {experts} experts of 384 × 1024, top-{top_k}, {tokens:,} tokens, {load}",
        _step(mixture, x, through_mixture),
        f"dense SwiGLU 384 × {WIDTH * top_k} (equal activated FLOPs)",
        _step(dense, x, lambda: dense(x).float().square().mean()),
        amount=tokens,
        unit="tokens",
        repeats=9,
    )


def _step(module: nn.Module, x: Tensor, loss: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        x.grad = None
        module.zero_grad(set_to_none=True)
        loss().backward()

    return step


def _mixture(layer: Literal["dropless", "deepspeed"], experts: int, top_k: int) -> nn.Module:
    moe = MoeSection(layer=layer, num_experts=experts, num_experts_per_tok=top_k, norm_topk_prob=top_k > 1)
    model = ModelSection(
        model_type="qwen3",
        vocab_size=64,
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=64,
        intermediate_size=WIDTH,
        max_position_embeddings=16,
        moe=moe.model_copy(update={"moe_intermediate_size": WIDTH}),
    )
    return _drawn(make_mlp(decoder_shape(model), 0, 1))


def _drawn(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.02, generator=generator)
    return module.bfloat16()


@torch.no_grad()
def _skew(mixture: nn.Module, x: Tensor) -> None:
    """Turns the router towards the first half of the tokens, so that all of them choose expert 0."""
    half = x[0, : x.shape[1] // 2]
    direction = torch.zeros(HIDDEN)
    direction[0] = 1.0
    half += 20.0 * direction.bfloat16()
    x[0, x.shape[1] // 2 :, 0] = -20.0
    mixture.gate.weight[:, 0] = 0.0  # type: ignore[union-attr,operator]
    mixture.gate.weight[0, 0] = 1.0  # type: ignore[union-attr,operator]
