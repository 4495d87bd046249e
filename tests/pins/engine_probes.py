"""Quirks of DeepSpeed's engine, each shown by one small function; started as one rank (or two) by check_pins.py.

    engine_probes.py GROUP FOLDER RESULT.json      GROUP: one (a single rank) or two (run first: `one` reads what it saves)

A probe returns True when the quirk is still there.
"""

import functools
import inspect
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import nn

WIDTH = 8
SLOW_SAVE_SECONDS = 3.0

Probe = Callable[[Path], bool]


def start(stage: int = 0, module: nn.Module | None = None, **settings: Any) -> Any:
    """An engine over a small linear layer with torch's AdamW."""
    torch.manual_seed(0)
    module = module or nn.Linear(WIDTH, WIDTH)
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "zero_optimization": {"stage": stage, **settings.pop("zero", {})},
        **settings,
    }
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    return deepspeed.initialize(model=module, optimizer=optimizer, config=config, dist_init_required=False)[0]


def step(engine: Any, factor: float = 1.0) -> None:
    """One optimizer step on fixed inputs; ``factor`` multiplies the loss."""
    tokens = torch.ones(2, WIDTH, dtype=next(engine.module.parameters()).dtype)
    engine.backward(engine(tokens).float().square().mean() * factor)
    engine.step()


@contextmanager
def refusal_expected(*kinds: type[BaseException]) -> Iterator[list[str]]:
    """Collects the message of an error of one of these kinds."""
    messages: list[str] = []
    try:
        yield messages
    except kinds as error:
        messages.append(str(error))


# --- one rank -------------------------------------------------------------------------------------------------------


def clips_at_one_when_nothing_is_said(_folder: Path) -> bool:
    return bool(start().gradient_clipping() == 1.0)


def bf16_without_zero_steps_twice(_folder: Path) -> bool:
    engine = start(bf16={"enabled": True})
    step(engine)
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    steps = {int(state["step"]) for state in inner.state.values() if "step" in state}
    return steps != {1}


def bf16_without_zero_refuses_fp32_accumulation(_folder: Path) -> bool:
    with refusal_expected(NotImplementedError, AssertionError, ValueError) as messages:
        start(bf16={"enabled": True}, data_types={"grad_accum_dtype": "fp32"})
    return bool(messages)


def bf16_zero1_with_fp32_accumulation_is_another_class(_folder: Path) -> bool:
    engine = start(1, bf16={"enabled": True}, data_types={"grad_accum_dtype": "fp32"})
    return type(engine.optimizer).__name__ == "BF16_Optimizer"


def another_accumulation_ends_the_step_in_mid_batch(_folder: Path) -> bool:
    """After three steps of one micro-step, the next one of two ends with its first: the count is that of the process."""
    engine = start(1, train_batch_size=2 * torch.distributed.get_world_size())
    for _ in range(3):
        step(engine)
    engine.set_train_batch_size(2 * engine.train_batch_size())
    return bool(engine.is_gradient_accumulation_boundary())


def no_gradient_norm_without_zero(_folder: Path) -> bool:
    engine = start()
    step(engine)
    return engine.get_global_grad_norm() is None


def the_norm_without_zero_is_summed_in_fp32(_folder: Path) -> bool:
    from deepspeed.runtime.utils import clip_grad_norm_

    parameter = nn.Parameter(torch.zeros(25_000_000))
    parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    exact = float(parameter.grad.double().norm())
    return abs(float(clip_grad_norm_(parameter, max_norm=1e9)) / exact - 1) > 1e-5


def offload_refuses_torch_adamw(_folder: Path) -> bool:
    with refusal_expected(Exception) as messages:
        start(2, zero={"offload_optimizer": {"device": "cpu"}})
    return any("zero_force_ds_cpu_optimizer" in message for message in messages)


def zero3_refuses_native_moe(_folder: Path) -> bool:
    from deepspeed.moe.layer import MoE

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.moe = MoE(WIDTH, nn.Linear(WIDTH, WIDTH), num_experts=2, ep_size=1)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.moe(tokens)[0]
            return output

    with refusal_expected(Exception) as messages:
        start(3, Layer())
    return any("stage" in message.lower() for message in messages)


def loading_nothing_is_only_a_warning(folder: Path) -> bool:
    return start(1).load_checkpoint(str(folder / "empty"))[0] is None


def a_flipped_bit_loads_silently(folder: Path) -> bool:
    engine = start(1, nn.Linear(64, 64))
    engine.save_checkpoint(str(folder / "flipped"), tag="engine", save_latest=False)
    path = folder / "flipped" / "engine" / "mp_rank_00_model_states.pt"
    weights = engine.module.weight.detach().numpy().tobytes()
    content = bytearray(path.read_bytes())
    place = content.find(weights[:64])
    assert place >= 0, "the weights are not stored as they are in memory"
    content[place + 1] ^= 1
    path.write_bytes(content)
    return start(1, nn.Linear(64, 64)).load_checkpoint(str(folder / "flipped"), tag="engine")[0] is not None


def its_muon_clips_what_it_has_orthogonalised(_folder: Path) -> bool:
    """Orthogonalising undoes any scale of the gradient: clipped before it, the first step would be the same."""

    def first_step(clipping: float) -> float:
        torch.manual_seed(0)
        module = nn.Linear(WIDTH, WIDTH, bias=False)
        before = module.weight.detach().clone()
        config = {
            "train_micro_batch_size_per_gpu": 2,
            "gradient_clipping": clipping,
            "zero_optimization": {"stage": 1},
            "optimizer": {"type": "Muon", "params": {"lr": 0.1, "weight_decay": 0.0}},
        }
        engine = deepspeed.initialize(model=module, config=config, dist_init_required=False)[0]
        step(engine)
        return float((module.weight.detach() - before).norm())

    with torch._dynamo.config.patch(disable=True):  # its kernels are compiled otherwise, which takes a minute
        return first_step(1e-3) < first_step(0.0) / 2


def a_nan_loss_raises_nothing(_folder: Path) -> bool:
    engine = start(1, bf16={"enabled": True, "check_grad_overflow": True}, data_types={"grad_accum_dtype": "fp32"})
    with refusal_expected(Exception) as messages:
        step(engine, float("nan"))
    return not messages


def another_world_size_does_not_load(folder: Path) -> bool:
    with refusal_expected(Exception) as messages:
        start(1).load_checkpoint(str(folder / "two"), tag="engine")
    return bool(messages)


def the_shared_memory_op_is_built_at_start(_folder: Path) -> bool:
    """By source: building it takes a minute and a compiler."""
    from deepspeed.comm.torch import TorchBackend, build_shm_op

    called = "build_shm_op()" in inspect.getsource(TorchBackend.__init__)
    return called and ".load()" in inspect.getsource(build_shm_op)


def the_shared_memory_op_cannot_be_switched_off(_folder: Path) -> bool:
    """True would break our guard: it relies on this switch."""
    from deepspeed.comm.torch import build_shm_op

    return "__compatible_ops__" not in inspect.getsource(build_shm_op)


def zero_groups_ignore_the_timeout(_folder: Path) -> bool:
    """By source: the groups of ZeRO are made without the time-out that init_distributed was given."""
    from deepspeed.comm import comm

    return "timeout" not in inspect.signature(comm.new_group).parameters


def the_latencies_of_collectives_are_running_totals(_folder: Path) -> bool:
    """By source: each call's latency is read from a timer that is not reset between calls."""
    from deepspeed.comm import comm

    return "elapsed(reset=False)" in inspect.getsource(comm.timed_op)


# --- two ranks ------------------------------------------------------------------------------------------------------


def latest_is_written_before_all_shards(folder: Path) -> bool:
    """Rank 1 is slow to save; rank 0 watches for `latest` and counts the shards that exist by then."""
    engine = start(1)
    step(engine)
    target, seen = folder / "two", []
    if torch.distributed.get_rank() == 1:
        save = engine._save_zero_checkpoint
        engine._save_zero_checkpoint = functools.partial(slow_save, save)

    def watch() -> None:
        end = time.monotonic() + 30
        while not (target / "latest").exists() and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(len(list(target.glob("engine/*optim_states.pt"))))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    engine.save_checkpoint(str(target), tag="engine")
    watcher.join(timeout=60)
    return seen[0] < 2


def slow_save(save: Callable[..., None], *arguments: Any) -> None:
    """What a busy file system does."""
    time.sleep(SLOW_SAVE_SECONDS)
    save(*arguments)


GROUPS: dict[str, tuple[Probe, ...]] = {
    "two": (latest_is_written_before_all_shards,),
    "one": (
        clips_at_one_when_nothing_is_said,
        bf16_without_zero_steps_twice,
        bf16_without_zero_refuses_fp32_accumulation,
        bf16_zero1_with_fp32_accumulation_is_another_class,
        another_accumulation_ends_the_step_in_mid_batch,
        no_gradient_norm_without_zero,
        the_norm_without_zero_is_summed_in_fp32,
        its_muon_clips_what_it_has_orthogonalised,
        offload_refuses_torch_adamw,
        zero3_refuses_native_moe,
        loading_nothing_is_only_a_warning,
        a_flipped_bit_loads_silently,
        a_nan_loss_raises_nothing,
        another_world_size_does_not_load,
        the_shared_memory_op_is_built_at_start,
        the_shared_memory_op_cannot_be_switched_off,
        zero_groups_ignore_the_timeout,
        the_latencies_of_collectives_are_running_totals,
    ),
}


def main(group: str, folder: str, result: str) -> None:
    """Runs a group's probes and writes {probe: true | false | "traceback"} from rank 0."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
    outcomes: dict[str, bool | str] = {}
    for probe in GROUPS[group]:
        try:
            outcomes[probe.__name__] = probe(Path(folder))
        except Exception:  # whatever a new version raises here is what check_pins.py has to show
            outcomes[probe.__name__] = traceback.format_exc(limit=-3)
    if torch.distributed.get_rank() == 0:
        Path(result).write_text(json.dumps(outcomes))
    torch.distributed.barrier()
    os._exit(0)  # nothing is left to save, and DeepSpeed's own exit hooks are not what is probed


if __name__ == "__main__":
    main(*sys.argv[1:])
