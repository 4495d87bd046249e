"""A mixture of SwiGLU experts, forward and backward, against a dense feed-forward of equal activated FLOPs; one thread, bf16."""

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.measure import Comparison, compare, timed
from zhgpt.config.moe_section import MoeSection
from zhgpt.config.schema import ModelSection
from zhgpt.distributed.memory import keep_freed_memory
from zhgpt.model.layers import GatedFeedForward, make_mlp
from zhgpt.model.shape import decoder_shape

HIDDEN, WIDTH = 384, 1024
REPEATS = 9
CHANGES = 23
"""Inputs of the rows whose loads change: no step has the loads of another that is timed."""
DRIFT = 0.3
MOST_TIMES = {(8, 1): 1.12, (8, 2): 1.12, (64, 1): 1.6, (64, 2): 1.35}
"""What was asked for, by experts and top-k: the dense layer's time, this many times."""
Loads = Literal["even load", "half the tokens on one expert", "loads that change"]
CASES: tuple[tuple[Literal["dropless", "deepspeed"], int, int, int, Loads], ...] = (
    # layer, experts, top-k, tokens, loads
    ("dropless", 8, 1, 4096, "even load"),
    ("dropless", 8, 1, 4096, "half the tokens on one expert"),
    ("dropless", 8, 1, 4096, "loads that change"),
    ("dropless", 8, 2, 4096, "even load"),
    ("dropless", 8, 2, 4096, "half the tokens on one expert"),
    ("dropless", 8, 2, 4096, "loads that change"),
    ("dropless", 64, 1, 4096, "even load"),
    ("dropless", 64, 2, 4096, "even load"),
    ("dropless", 64, 1, 1024, "even load"),
    ("deepspeed", 8, 1, 4096, "even load"),
    ("deepspeed", 8, 2, 4096, "even load"),
)


def run() -> list[Comparison]:
    """One row a case. DeepSpeed's own layer keeps its capacity factor of 1.25, so it drops what is past it."""
    torch.set_num_threads(1)
    keep_freed_memory("cpu")
    return [_row(*case) for case in CASES]


def _row(layer: Literal["dropless", "deepspeed"], experts: int, top_k: int, tokens: int, loads: Loads) -> Comparison:
    mixture = _mixture(layer, experts, top_k)
    dense = _drawn(GatedFeedForward(HIDDEN, WIDTH * top_k, bias=False))
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(1, tokens, HIDDEN, generator=generator).bfloat16()
        for _ in range(CHANGES if loads == "loads that change" else 1)
    ]
    if loads == "half the tokens on one expert":
        _skew(mixture, inputs[0])
    if loads == "loads that change":
        for x in inputs:  # a drift that all tokens share moves the loads of a step
            x += torch.randn(HIDDEN, generator=generator).mul_(DRIFT).bfloat16()

    def through_mixture(x: Tensor) -> Tensor:
        output, router_loss = mixture(x)
        return output.float().square().mean() + router_loss

    row = compare(
        f"{layer} mixture, {experts} experts of 384 × 1024, top-{top_k}, {tokens:,} tokens, {loads}",
        _step(mixture, inputs, through_mixture),
        f"dense SwiGLU 384 × {WIDTH * top_k} (equal activated FLOPs)",
        _step(dense, inputs, lambda x: dense(x).float().square().mean()),
        amount=tokens,
        unit="tokens",
        repeats=REPEATS if len(inputs) == 1 else CHANGES - 2,
    )
    if layer == "dropless" and tokens == 4096:
        row = replace(row, at_least=f"{1 / MOST_TIMES[experts, top_k]:.3f} ({MOST_TIMES[experts, top_k]} × the time)")
    elif layer == "dropless":
        row = replace(row, notes=_beside_bandwidth(mixture, tokens / row.ours_per_wall_second))
    return row


def _beside_bandwidth(mixture: nn.Module, seconds: float) -> str:
    """How long the weights alone take to pass through the memory: read forward and backward, their gradients written."""
    numbers = sum(parameter.numel() for parameter in mixture.parameters())
    source = torch.empty(64_000_000, dtype=torch.bfloat16).fill_(1)
    target = torch.empty_like(source)
    taken = statistics.median(timed(lambda: target.copy_(source)).wall_seconds for _ in range(REPEATS))
    bandwidth = 2 * source.nbytes / taken
    bound = 3 * 2 * numbers / bandwidth
    way = f"the weights' way through the memory ({bandwidth / 1e9:.1f} GB/s)"
    return f"{1000 * seconds:.0f} ms, of which {way} {1000 * bound:.0f} ms"


def _step(module: nn.Module, inputs: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """A step that takes the next of the inputs, from the first on again after the last."""
    turn = itertools.cycle(inputs)

    def step() -> None:
        x = next(turn).detach().requires_grad_()
        module.zero_grad(set_to_none=True)
        loss(x).backward()

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
