"""bf16 engines at ZeRO 0 to 2 with accumulation: as they are built, with DeepSpeed's average put back, with late additions."""

from typing import Any

import torch
import torch.distributed


def train(stages: list[int]) -> dict[int, dict[str, Any]]:
    """For each stage whether gradients are averaged in the backward pass, and the weights after three steps."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)
    torch.set_num_threads(1)
    results = {}
    for stage in stages:
        averages, first, weights = _train(stage, put_back=False)
        results[stage] = {
            "averages": averages,
            "first_weights": first,
            "weights": weights,
            "weights_with_averaging": _train(stage, put_back=True)[2],
        }
        if stage == 1:
            results[stage]["weights_with_late_update"] = _train(stage, put_back=False, immediate=False)[2]
    return results


def _train(stage: int, *, put_back: bool, immediate: bool = True) -> tuple[bool, list[float], list[float]]:
    from zhgpt.train.engine import build_engine

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))
    adam = torch.optim.AdamW(module.parameters(), lr=1e-2)
    first = module[0].weight.detach().flatten().tolist()
    world_size = torch.distributed.get_world_size()
    precision = {"torch_autocast": {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}}
    if stage > 0:
        bf16 = {"enabled": True, "check_grad_overflow": True, "immediate_grad_update": immediate and stage == 1}
        precision = {"bf16": bf16, "data_types": {"grad_accum_dtype": "fp32"}}
    config = {
        "train_batch_size": 8 * world_size,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1.0 if stage > 0 else 0.0,
        "zero_optimization": {"stage": stage},
        "communication_data_type": "fp32",  # DeepSpeed's own for bf16 rounds the fp32 sums for the way
        **precision,
    }
    engine = build_engine(module, adam, config)
    averages = bool(engine.enable_backward_allreduce)
    if put_back:
        engine.enable_backward_allreduce = True
    inputs = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(1))
    for x in inputs:
        engine.backward(engine(x if stage == 0 else x.bfloat16()).float().square().mean())
        engine.step()
    return averages, first, engine.module[0].weight.detach().float().flatten().tolist()
