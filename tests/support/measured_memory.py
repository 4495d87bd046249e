"""What real DeepSpeed ranks hold at their fullest moment, against what ``zhgpt plan`` says; runs on each rank."""

import ctypes
import gc
import json
from pathlib import Path
from typing import Any

STEPS = 2
MODEL = {"model_type": "qwen3", "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
OTHER = {"model_type": "gpt2", "hidden_size": 448, "num_hidden_layers": 7, "num_attention_heads": 7}
MODELS: dict[str, tuple[dict[str, Any], int, int]] = {"qwen3": (MODEL, 256, 8192), "gpt2": (OTHER, 192, 12_032)}
"""Name: model, tokens a sample, vocabulary. The plan was corrected on the first; the second it had not seen."""
SMALL = {"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
BUCKET = 4_000_000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def zero_json(stage: int) -> dict[str, Any]:
    """A DeepSpeed JSON with buckets that are small beside the model."""
    zero: dict[str, Any] = {"stage": stage}
    if stage:
        zero |= {"reduce_bucket_size": BUCKET, "overlap_comm": False}
    if stage == 3:
        zero |= {"stage3_prefetch_bucket_size": BUCKET // 2, "stage3_param_persistence_threshold": 100_000}
    return {"zero_optimization": zero}


def compare(cells: list[tuple[str, int, int, int, bool]], name: str = "qwen3") -> list[dict[str, Any]]:
    """Train each cell for a few steps and measure this rank's peak.

    Args:
        cells: precision, ZeRO stage, micro batch, accumulation, activation checkpointing.
        name: of the model, in ``MODELS``.

    Returns:
        For each cell ``measured`` and ``predicted`` bytes; measured is the peak of resident memory above what the process
        held after a small model had run through the same engine.
    """
    import deepspeed
    import torch

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # no compiler needed
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    torch.set_num_threads(1)
    # Freed tensors go back to the system at once, so that resident memory is what lives.
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 65536)
    libc.mallopt(M_TRIM_THRESHOLD, 0)
    return [_compare(libc, name, *cell) for cell in cells]


def _compare(
    libc: Any,
    name: str,
    precision: str,
    stage: int,
    micro: int,
    accumulation: int,
    checkpointing: bool,
    optimizer: str = "adamw",
) -> dict[str, Any]:
    import torch.distributed

    from zhgpt.config.batch_plan import plan_batch
    from zhgpt.config.deepspeed_json import compose_deepspeed_config
    from zhgpt.config.loading import resolve_model
    from zhgpt.config.schema import RunConfig
    from zhgpt.plan.layout import layout_of
    from zhgpt.plan.memory import plan_memory

    section, length, vocabulary = MODELS[name]
    world_size = torch.distributed.get_world_size()

    def run_config(model: dict[str, Any]) -> RunConfig:
        return RunConfig.model_validate(
            {
                "data": {"train": "x", "sequence_length": length},
                "model": model,
                "optim": {"name": optimizer, "learning_rate": 1e-3},
                "train": {
                    "steps": STEPS,
                    "global_batch_size": world_size * micro * accumulation,
                    "micro_batch_size": micro,
                    "precision": precision,
                    "activation_checkpointing": checkpointing,
                },
            }
        )

    config = run_config(section)
    composed = compose_deepspeed_config(config, zero_json(stage), plan_batch(config, world_size), accelerator="cpu")
    _train(resolve_model(run_config(SMALL), 512), config, composed, accumulation)
    gc.collect()
    libc.malloc_trim(0)
    base = _resident("VmRSS")
    model = resolve_model(config, vocabulary)
    peak = _train(model, config, composed, accumulation)
    gc.collect()
    layout = layout_of(
        zero_json(stage),
        precision=precision,
        world_size=world_size,
        accumulation=accumulation,
        recomputed_layers=config.train.layers_to_recompute(model.num_hidden_layers),
        kernels="cpu",
        optimizer=optimizer,
    )
    predicted = plan_memory(model, layout, micro, length, reserve=False)
    return {"measured": peak - base, "predicted": predicted.total, "moment": predicted.moment}


def _train(model: Any, config: Any, composed: dict[str, Any], accumulation: int) -> int:
    """The peak of the last step, bytes resident."""
    import torch

    from zhgpt.model.initialise import initialise_weights
    from zhgpt.model.transformer import CausalLM
    from zhgpt.train.engine import build_engine
    from zhgpt.train.optimizer import OptimizerChoice

    train, length = config.train, config.data.sequence_length
    module = CausalLM(model, "blocked", activation_checkpointing=train.layers_to_recompute(model.num_hidden_layers))
    initialise_weights(module, model, seed=1)
    choice = OptimizerChoice({"adamw": "torch.optim.AdamW", "muon": "Muon"}[config.optim.name], "")
    engine = build_engine(module, choice.build(module, config.optim, train.precision), json.loads(json.dumps(composed)))
    del module
    tokens = torch.randint(0, model.vocab_size, (train.micro_batch_size, length + 1))
    for _ in range(STEPS):
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident
        for _ in range(accumulation):
            loss = engine(tokens[:, :-1], tokens[:, 1:])
            engine.backward(loss / tokens.numel())
            del loss
            engine.step()
    peak = _resident("VmHWM")
    engine.destroy()
    return peak


def _resident(name: str) -> int:
    """A line of /proc/self/status, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def state_bytes_at_64_ranks(stages: list[int]) -> list[dict[str, float]]:
    """Bytes a parameter that rank 0 of 64 keeps between steps, of real DeepSpeed engines whose other ranks are made up.

    torch's ``fake`` process group answers every collective at once without moving anything, so one process sees the layout
    of 64 ranks.
    """
    import torch
    import torch.distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=64, store=FakeStore())
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False, verbose=False)
    return [_state_bytes(stage) for stage in stages]


def _state_bytes(stage: int) -> dict[str, float]:
    import torch

    from zhgpt.config.batch_plan import plan_batch
    from zhgpt.config.deepspeed_json import compose_deepspeed_config
    from zhgpt.config.loading import resolve_model
    from zhgpt.config.schema import OptimSection, RunConfig
    from zhgpt.model.initialise import initialise_weights
    from zhgpt.model.transformer import CausalLM
    from zhgpt.plan.layout import layout_of
    from zhgpt.plan.states import state_bytes
    from zhgpt.train.engine import build_engine
    from zhgpt.train.optimizer import OptimizerChoice

    config = RunConfig.model_validate(
        {
            "data": {"train": "x", "sequence_length": 64},
            "model": {**MODEL, "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4},
            "train": {"steps": 1, "global_batch_size": 64, "micro_batch_size": 1, "precision": "bf16"},
        }
    )
    ds_json = zero_json(stage)
    ds_json["zero_optimization"]["reduce_bucket_size"] = 1000
    if stage == 3:
        ds_json["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    composed = compose_deepspeed_config(config, ds_json, plan_batch(config, 64), accelerator="cpu")
    model = resolve_model(config, 8192)
    before = _tensor_storages()
    module = CausalLM(model, "sdpa")
    initialise_weights(module, model, seed=1)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    engine = build_engine(
        module, OptimizerChoice("torch.optim.AdamW", "").build(module, OptimSection(learning_rate=1e-3)), composed
    )
    tokens = torch.zeros(1, 65, dtype=torch.int64)
    loss = engine(tokens[:, :-1], tokens[:, 1:])
    engine.backward(loss / 64)
    engine.step()
    del loss
    after = _tensor_storages()
    kept = sum(size for place, size in after.items() if place not in before)
    layout = layout_of(ds_json, precision="bf16", world_size=64)
    state = state_bytes(parameters, layout, 64)
    return {"kept": float(kept), "planned": state.weights + state.optimizer + state.held_gradients}


def _tensor_storages() -> dict[int, int]:
    """Bytes of every living tensor's storage by its place; views share one."""
    import torch

    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
