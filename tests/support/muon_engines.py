"""Muon under real DeepSpeed engines, twenty steps a cell, and the same by a plain loop without any of it."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed
from tiny_mixture import tiny_mixture
from torch import Tensor

from zhgpt.config.batch_plan import plan_batch
from zhgpt.config.deepspeed_json import compose_deepspeed_config
from zhgpt.config.schema import DataSection, ModelSection, OptimSection, RunConfig, ScheduleSection, TrainSection
from zhgpt.distributed.environment import read_rank_environment
from zhgpt.distributed.process_group import join_ranks, leave
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.transformer import CausalLM
from zhgpt.train.engine import build_engine, clip_unpartitioned_gradients, set_learning_rate
from zhgpt.train.optimizer import choose_optimizer

STEPS, SEQUENCES, LENGTH = 20, 8, 16
RATE = 1e-2
OPTIM: dict[str, Any] = {
    "name": "muon",
    "learning_rate": RATE,
    "embedding_learning_rate": 3e-2,
    "vector_learning_rate": 5e-3,
    "weight_decay": 0.1,
    "embedding_weight_decay": 0.01,
    "gradient_clipping": 0.5,
}


@dataclass(frozen=True)
class Cell:
    """One engine: a ZeRO section, precision, accumulation, and the model."""

    stage: int
    precision: str = "fp32"
    micro_steps: int = 1
    model: str = "dense"
    ep_size: int = 1
    offload: bool = False
    zero: tuple[tuple[str, Any], ...] = ()
    optim: tuple[tuple[str, Any], ...] = field(default=())

    def __str__(self) -> str:
        extras = "".join(f"-{key}={value}" for key, value in (*self.zero, *self.optim))
        offload = "-offload" if self.offload else ""
        return f"zero{self.stage}{offload}-{self.precision}-x{self.micro_steps}-{self.model}-ep{self.ep_size}{extras}"


def section_of(cell: Cell) -> ModelSection:
    """A model whose matrices no division into equal parts respects."""
    if cell.model == "mixture":
        return tiny_mixture("dropless")
    return ModelSection(
        model_type="gpt2" if cell.model == "gpt2" else "qwen3",
        tie_word_embeddings=cell.model != "untied",
        vocab_size=96,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4 if cell.model == "gpt2" else 2,
        head_dim=6,
        intermediate_size=40,
        max_position_embeddings=LENGTH,
    )


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Tokens and labels of the global batch: few patterns, so that there is something to learn."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(0, 90, (SEQUENCES, 1), generator=generator)
    tokens = (starts + 3 * torch.arange(LENGTH + 1)) % 90
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def config_of(cell: Cell, world_size: int) -> RunConfig:
    return RunConfig(
        data=DataSection(train="x", sequence_length=LENGTH),
        model=section_of(cell),
        optim=OptimSection(**{**OPTIM, **dict(cell.optim)}),
        schedule=ScheduleSection(warmup_steps=0),
        train=TrainSection(
            steps=STEPS,
            global_batch_size=SEQUENCES,
            micro_batch_size=SEQUENCES // world_size // cell.micro_steps,
            precision=cell.precision,  # type: ignore[arg-type]
            ep_size=cell.ep_size,
        ),
    )


def rate_at(step: int) -> float:
    """A rate that changes at each step, as a schedule's does."""
    return RATE * (1 - step / (2 * STEPS))


def train_cells(cells: list[Cell]) -> list[dict[str, Any]]:
    """Runs on every rank: global losses and gradient norms of each cell."""
    ranks = join_ranks(read_rank_environment(), accelerator="cpu", timeout_seconds=60)
    found = [_train(cell, ranks) for cell in cells]
    leave()
    return found


def _train(cell: Cell, ranks: Any) -> dict[str, Any]:
    config = config_of(cell, ranks.world_size)
    plan = plan_batch(config, ranks.world_size)
    offload = {"offload_optimizer": {"device": "cpu"}} if cell.offload else {}
    deepspeed_json = {"zero_optimization": {"stage": cell.stage, **offload, **dict(cell.zero)}}
    composed = compose_deepspeed_config(config, deepspeed_json, plan, accelerator="cpu")
    ep_rank = ranks.rank % cell.ep_size
    module = CausalLM(config.model, "sdpa", ep_size=cell.ep_size)
    initialise_weights(module, config.model, seed=3, ep_rank=ep_rank, ep_size=cell.ep_size)
    choice = choose_optimizer(config.optim, deepspeed_json, ranks)
    engine = build_engine(module, choice.build(module, config.optim, cell.precision), composed)
    losses, norms = [], []
    for step in range(STEPS):
        set_learning_rate(engine, rate_at(step))
        total = torch.zeros(())
        tokens, labels = batch(step)
        for micro_step in range(cell.micro_steps):
            first = (micro_step * ranks.world_size + ranks.rank) * plan.micro_batch_size
            rows = slice(first, first + plan.micro_batch_size)
            result = engine(tokens[rows], labels=labels[rows])
            nats, router = (result, 0.0) if result.dim() == 0 else result.unbind()
            engine.backward(nats * (ranks.world_size * cell.micro_steps / labels.numel()) + router)
            norm = None
            if engine.is_gradient_accumulation_boundary():
                norm = clip_unpartitioned_gradients(engine, config.optim.gradient_clipping)
            engine.step()
            total += nats.detach()
        torch.distributed.all_reduce(total)
        losses.append(float(total) / labels.numel())
        norms.append(float(engine.get_global_grad_norm() if norm is None else norm))
    engine.destroy()
    return {"losses": losses, "norms": norms}


def plain_losses(cell: Cell, world_size: int = 1) -> dict[str, Any]:
    """The same twenty steps by one process, one matrix after another."""
    config = config_of(cell, world_size)
    optim = config.optim
    module = CausalLM(config.model, "sdpa")
    initialise_weights(module, config.model, seed=3)
    states: dict[str, dict[str, Tensor]] = {}
    losses, norms = [], []
    parts = world_size * cell.micro_steps
    for step in range(STEPS):
        module.zero_grad(set_to_none=False)
        tokens, labels = batch(step)
        total = 0.0
        for some_tokens, some_labels in zip(tokens.chunk(parts), labels.chunk(parts), strict=True):
            result = module(some_tokens, labels=some_labels)
            nats, router = (result, 0.0) if result.dim() == 0 else result.unbind()
            (nats / labels.numel() + router / parts).backward()
            total += float(nats.detach())
        norm = float(torch.cat([p.grad.double().flatten() for p in module.parameters()]).norm())
        scale = min(1.0, optim.gradient_clipping / norm) if optim.gradient_clipping else 1.0
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                _plain_step(name, parameter, parameter.grad * scale, states.setdefault(name, {}), step, optim)
        losses.append(total / labels.numel())
        norms.append(norm)
    return {"losses": losses, "norms": norms}


def _plain_step(
    name: str, weight: Tensor, gradient: Tensor, state: dict[str, Tensor], step: int, optim: OptimSection
) -> None:
    rate, decay = rate_at(step), optim.weight_decay
    if "_proj" in name and weight.dim() > 1:
        rate *= (optim.muon_learning_rate or RATE) / RATE
        mu = optim.muon_momentum
        state["m"] = mu * state.get("m", 0.0) + gradient
        direction = gradient + mu * state["m"] if optim.muon_nesterov else state["m"]
        weight.mul_(1 - rate * decay)
        is_stack = weight.dim() == 3
        for matrix, part in zip(weight, direction, strict=True) if is_stack else [(weight, direction)]:
            matrix.sub_(
                0.2 * max(matrix.shape) ** 0.5 * rate * _plain_orthogonalise(part, optim.muon_newton_schulz_steps)
            )
        return
    if "embed" in name:
        rate, decay = rate * optim.embedding_learning_rate / RATE, optim.embedding_weight_decay  # type: ignore[operator]
    elif weight.dim() < 2:
        rate, decay = rate * optim.vector_learning_rate / RATE, 0.0  # type: ignore[operator]
    first, second = optim.betas
    state["m"] = first * state.get("m", 0.0) + (1 - first) * gradient
    state["v"] = second * state.get("v", 0.0) + (1 - second) * gradient**2
    m, v = state["m"] / (1 - first ** (step + 1)), state["v"] / (1 - second ** (step + 1))
    weight.mul_(1 - rate * decay).sub_(rate * m / (v.sqrt() + optim.eps))


def _plain_orthogonalise(x: Tensor, steps: int) -> Tensor:
    x = x / x.norm() if x.norm() > 0 else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x
