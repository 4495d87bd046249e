"""One optimizer step of a mixture under DeepSpeed on real ranks, and the same by a plain loop on one."""

from typing import Any
from unittest.mock import patch

import torch
import torch.distributed
from tiny_mixture import tiny_mixture
from torch import Tensor

from zhgpt.config.schema import OptimSection
from zhgpt.distributed.environment import read_rank_environment
from zhgpt.distributed.process_group import join_ranks, leave
from zhgpt.model.initialise import initialise_weights
from zhgpt.model.moe import experts
from zhgpt.model.moe.names import canonical_parts
from zhgpt.model.transformer import CausalLM
from zhgpt.train.engine import build_engine, clip_unpartitioned_gradients
from zhgpt.train.optimizer import parameter_groups
from zhgpt.train.routing import mixtures

SEQUENCES, LENGTH = 2, 16
MICRO_STEPS = 4
RATE = 1.0
"""Of plain gradient descent without momentum: the step is then the reduced and clipped gradient itself."""

Case = dict[str, Any]
"""``layer``, ``stage``, ``ep_size``, ``micro_steps``, ``clipping``, ``activation_checkpointing``, ``moe``, ``model_type``;
``grouped``: with the products of a GPU."""


def micro_batch(rank: int, micro_step: int, micro_steps: int) -> tuple[Tensor, Tensor]:
    """Tokens and labels; 4 micro-steps have together the samples of each other number of them."""
    generator = torch.Generator().manual_seed(100 + rank)
    tokens = torch.randint(0, 96, (SEQUENCES * MICRO_STEPS, LENGTH + 1), generator=generator)
    share = tokens.chunk(micro_steps)[micro_step]
    return share[:, :-1].contiguous(), share[:, 1:].contiguous()


def steps_under_deepspeed(cases: list[Case]) -> list[dict[str, Any]]:
    """Runs on every rank: for each case the weights' changes by canonical name (this rank's), norm and loads."""
    ranks = join_ranks(read_rank_environment(), accelerator="cpu", timeout_seconds=60)
    found = []
    for case in cases:
        with patch.object(experts, "has_grouped_kernel", lambda device, dtype, case=case: bool(case.get("grouped"))):
            found.append(_step(case, ranks.rank, ranks.world_size))
    leave()
    return found


def _step(case: Case, rank: int, world_size: int) -> dict[str, Any]:
    ep_size, micro_steps = case["ep_size"], case["micro_steps"]
    section = tiny_mixture(case["layer"], case.get("model_type", "qwen3"), **case["moe"])
    module = CausalLM(
        section, "sdpa", activation_checkpointing=case.get("activation_checkpointing", False), ep_size=ep_size
    )
    initialise_weights(module, section, seed=3, ep_rank=rank % ep_size, ep_size=ep_size)
    before = weights_of(module, rank % ep_size, section.moe.num_experts // ep_size)
    optimizer = torch.optim.SGD(parameter_groups(module, OptimSection(learning_rate=RATE, weight_decay=0)), lr=RATE)
    engine = build_engine(module, optimizer, deepspeed_config(case, micro_steps, world_size))
    engine.train()
    targets = SEQUENCES * MICRO_STEPS * LENGTH * world_size
    norm = None
    for micro_step in range(micro_steps):
        tokens, labels = micro_batch(rank, micro_step, micro_steps)
        torch.manual_seed(rank)
        nats, router = engine(tokens, labels=labels).unbind()
        engine.backward(nats * (world_size * micro_steps / targets) + router)
        if engine.is_gradient_accumulation_boundary():
            norm = clip_unpartitioned_gradients(engine, case["clipping"])
        engine.step()
    after = weights_of(engine.module, rank % ep_size, section.moe.num_experts // ep_size)
    return {
        "change": {name: (after[name] - before[name]).numpy() for name in before},
        "norm": float(engine.get_global_grad_norm() if norm is None else norm),
        "loads": [mixture.counts.load_E.tolist() for mixture in mixtures(engine.module).values()],
        "dropped": [int(mixture.counts.dropped) for mixture in mixtures(engine.module).values()],
    }


def deepspeed_config(case: Case, micro_steps: int, world_size: int) -> dict[str, Any]:
    """fp32, plain gradient descent."""
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": SEQUENCES * MICRO_STEPS // micro_steps,
        "gradient_accumulation_steps": micro_steps,
        "train_batch_size": SEQUENCES * MICRO_STEPS * world_size,
        "gradient_clipping": case["clipping"] if case["stage"] else 0.0,
        "steps_per_print": 10**9,
        "zero_optimization": {"stage": case["stage"]},
        "zero_allow_untested_optimizer": True,
    }
    if case["stage"]:
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


def weights_of(module: torch.nn.Module, ep_rank: int, local_experts: int) -> dict[str, Tensor]:
    """This rank's weights by canonical name; gathered under ZeRO-3."""
    import deepspeed

    found: dict[str, Tensor] = {}
    parameters = dict(module.named_parameters())
    partitioned = [parameter for parameter in parameters.values() if hasattr(parameter, "ds_id")]
    with deepspeed.zero.GatheredParameters(partitioned, enabled=bool(partitioned)):
        for name, parameter in parameters.items():
            for part, values in canonical_parts(name, parameter.detach(), ep_rank, local_experts):
                found[part] = values.clone()
    return found


def step_of_the_reference(case: Case, world_size: int) -> dict[str, Any]:
    """The same step by the plain loop on one process: sum over ranks and micro-steps, clip, subtract."""
    moe = {key: value for key, value in case["moe"].items() if key not in DEEPSPEED_SETTINGS}
    section = tiny_mixture("reference", case.get("model_type", "qwen3"), **moe)
    module = CausalLM(section, "sdpa")
    initialise_weights(module, section, seed=3)
    micro_steps = case["micro_steps"]
    targets = SEQUENCES * MICRO_STEPS * LENGTH * world_size
    whole = moe.get("router_aux_loss_scope") == "global"
    for micro_step in range(micro_steps):
        batches = [micro_batch(rank, micro_step, micro_steps) for rank in range(world_size)]
        if whole:  # the balance of a micro-step over all ranks is that of one batch with all their sequences
            batches = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
        for tokens, labels in batches:
            nats, router = module(tokens, labels=labels).unbind()
            (nats / targets + router / (len(batches) * micro_steps)).backward()
    norm = torch.linalg.vector_norm(
        torch.stack(
            [torch.linalg.vector_norm(p.grad, dtype=torch.float64) for p in module.parameters() if p.grad is not None]
        )
    )
    scale = min(1.0, case["clipping"] / (float(norm) + 1e-6)) if case["clipping"] else 1.0
    change = {
        name: (-RATE * scale * (torch.zeros_like(p) if p.grad is None else p.grad)).numpy()
        for name, p in module.named_parameters()
    }
    return {"change": change, "norm": float(norm)}


DEEPSPEED_SETTINGS = ("drop_tokens", "use_rts", "top2_2nd_expert_sampling", "capacity_factor", "min_capacity")
