"""Real DeepSpeed engines made from composed JSONs, trained for a few steps on fixed numbers; runs on each rank."""

from pathlib import Path
from typing import Any

STEPS = 4
GLOBAL_BATCH = 16
FEATURES = 24
CLASSES = 10


def train_cells(cells: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Train one engine a cell, in one process group.

    Args:
        cells: path of a DeepSpeed JSON, precision, micro batch size.

    Returns:
        For each cell the global losses of its steps, and what the engine took from its config.
    """
    import deepspeed
    import torch.distributed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # no compiler needed
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    try:
        return [_train(Path(path), precision, micro) for path, precision, micro in cells]
    finally:
        torch.distributed.destroy_process_group()


def _train(path: Path, precision: str, micro: int) -> dict[str, Any]:
    import deepspeed
    import torch

    from zhgpt.config.batch_plan import plan_batch
    from zhgpt.config.deepspeed_json import compose_deepspeed_config, load_deepspeed_json
    from zhgpt.config.schema import DataSection, RunConfig, ScheduleSection, TrainSection
    from zhgpt.train.engine import clip_unpartitioned_gradients

    world_size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    config = RunConfig(
        data=DataSection(train="x", sequence_length=2),
        schedule=ScheduleSection(warmup_steps=0),
        train=TrainSection(steps=STEPS, global_batch_size=GLOBAL_BATCH, micro_batch_size=micro, precision=precision),  # type: ignore[arg-type]
    )
    plan = plan_batch(config, world_size)
    composed = compose_deepspeed_config(config, load_deepspeed_json(path), plan, accelerator="cpu")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 40), torch.nn.GELU(), torch.nn.LayerNorm(40), torch.nn.Linear(40, CLASSES)
    )
    inputs, targets = torch.randn(STEPS, GLOBAL_BATCH, FEATURES), torch.randint(CLASSES, (STEPS, GLOBAL_BATCH))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=composed, dist_init_required=False)
    weight = next(engine.module.parameters())
    losses = []
    for step in range(STEPS):
        total = torch.zeros(())
        for micro_step in range(plan.gradient_accumulation_steps):
            first = (micro_step * world_size + rank) * micro
            rows = slice(first, first + micro)
            logits = engine(inputs[step, rows].to(weight.dtype))
            loss = torch.nn.functional.cross_entropy(logits.float(), targets[step, rows])
            engine.backward(loss)
            if engine.is_gradient_accumulation_boundary():
                clip_unpartitioned_gradients(engine, config.optim.gradient_clipping)
            engine.step()
            total += loss.detach() / plan.gradient_accumulation_steps
        torch.distributed.all_reduce(total)
        losses.append(float(total) / world_size)
    found = {
        "losses": losses,
        "weights": str(weight.dtype),
        "optimizer": type(engine.optimizer).__name__,
        "stage": int(engine.zero_optimization_stage()),
        "clipping": engine.gradient_clipping(),
        "accumulation": engine.gradient_accumulation_steps(),
        "accumulated_in": str(engine.get_data_types()[1]),
        "tag_failure_stops": engine._config.checkpoint_tag_validation_fail,
        "autocast": engine.torch_autocast_enabled(),
    }
    engine.destroy()
    return found
