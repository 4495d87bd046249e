"""Ends a rank with SIGKILL at a named moment of a real run; used through tests/support/ranks.py."""

import importlib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Moment:
    """The ``occurrence``-th call of ``place`` (module:attribute) on ``rank``, before or after it ran."""

    place: str
    occurrence: int
    rank: int
    after: bool = False

    def __str__(self) -> str:
        return f"rank {self.rank} {'after' if self.after else 'before'} call {self.occurrence} of {self.place}"


def resolve(place: str) -> tuple[Any, str]:
    module_name, path = place.split(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def on_call(moment: Moment, action: Callable[[], None]) -> None:
    """Runs ``action`` at the moment, if this process is the moment's rank."""
    if int(os.environ["RANK"]) != moment.rank:
        return
    owner, name = resolve(moment.place)
    original = getattr(owner, name)
    calls = 0

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == moment.occurrence and not moment.after:
            action()
        result = original(*args, **kwargs)
        if calls == moment.occurrence and moment.after:
            action()
        return result

    setattr(owner, name, counting)


def train(argv: Sequence[str]) -> None:
    """One rank of a run, as every launcher starts it."""
    from zhgpt.cli.rank import main

    main(list(argv))


def train_and_die(argv: Sequence[str], moment: Moment) -> None:
    """One rank of a run that SIGKILL ends at the moment."""
    on_call(moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(argv)


def train_and_signal(argv: Sequence[str], moment: Moment, number: int) -> None:
    """One rank of a run that gets a signal at the moment."""
    on_call(moment, lambda: os.kill(os.getpid(), number))
    train(argv)


def train_and_stop_answering(argv: Sequence[str], moment: Moment) -> None:
    """One rank of a run that is stopped (not ended) at the moment, as a rank whose host hangs."""
    on_call(moment, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    train(argv)


def train_and_raise(argv: Sequence[str], moment: Moment, error: BaseException) -> None:
    """One rank of a run in which a call raises."""

    def fail() -> None:
        raise error

    on_call(moment, fail)
    train(argv)


def train_on_a_disk_that_fills(argv: Sequence[str], step: int) -> None:
    """A run whose metrics.jsonl has no room from the line of this step on; only rank 0 writes it."""
    from zhgpt.train.json_lines import JsonLinesWriter
    from zhgpt.train.outputs import Outputs

    original = Outputs.step

    def fill(outputs: Outputs, record: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        if record["step"] == step and outputs.log is not None:
            outputs.log._metrics._file = JsonLinesWriter(Path("/dev/full"))._file
        original(outputs, record, samples)

    Outputs.step = fill  # type: ignore[method-assign]
    train(argv)


def train_on_a_slow_disk(argv: Sequence[str], seconds: float) -> None:
    """A run whose samples come from a disk that takes so long for each batch."""
    import zhgpt.train.loader as loader

    original = loader.host_batch

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return original(*args, **kwargs)

    loader.host_batch = slow
    train(argv)


def train_and_poison(argv: Sequence[str], step: int) -> None:
    """A run whose loss becomes NaN at a step."""
    import zhgpt.train.training as training

    original = training.train_step

    def poisoned(run: Any, at: int) -> Any:
        result = original(run, at)
        if at == step:
            result.nats.fill_(float("nan"))
        return result

    import zhgpt.train.loop as loop

    loop.train_step = poisoned
    train(argv)


def train_with_scaled_weights(argv: Sequence[str], pattern: str, factor: float) -> None:
    """A run whose first weights are multiplied where their names match."""
    import zhgpt.train.pretrain as pretrain

    original = pretrain.initialise_weights

    def scaled(module: Any, *args: Any, **kwargs: Any) -> None:
        original(module, *args, **kwargs)
        for name, parameter in module.named_parameters():
            if re.search(pattern, name):
                parameter.data.mul_(factor)

    pretrain.initialise_weights = scaled  # type: ignore[assignment]
    train(argv)


def train_with_a_poisoned_gradient(
    argv: Sequence[str], step: int, end: int | None = None, factor: float = float("nan")
) -> None:
    """A run in which the gradient of one step, or of the steps up to ``end``, is multiplied; the loss is as it was."""
    import zhgpt.train.training as training
    from zhgpt.train.loader import Loader

    original, at = Loader.take, [-1]

    def remember(loader: Loader, now: int, micro_step: int) -> Any:
        at[0] = now
        return original(loader, now, micro_step)

    forward = training.forward

    def poisoned(run: Any, batch: Any) -> Any:
        nats = forward(run, batch)
        if step <= at[0] < (step + 1 if end is None else end) and nats.requires_grad:
            nats.register_hook(lambda gradient: gradient * factor)
        return nats

    Loader.take, training.forward = remember, poisoned  # type: ignore[method-assign]
    train(argv)


def train_and_read_settings(argv: Sequence[str]) -> tuple[Any, ...]:
    """A resumed run; returns betas, eps, weight decays and clipping bound that its engine uses in the end."""
    import zhgpt.train.pretrain as pretrain
    from zhgpt.cli.rank import parse_arguments, run_rank
    from zhgpt.distributed.environment import read_rank_environment
    from zhgpt.train.stop import StopRequest

    engines: list[Any] = []
    original = pretrain.build_engine

    def remember(*args: Any) -> Any:
        engines.append(original(*args))
        return engines[-1]

    pretrain.build_engine = remember
    run_rank(parse_arguments(argv)[0], read_rank_environment(), StopRequest())
    engine = engines[0]
    groups = engine.optimizer.param_groups
    clipping = getattr(engine.optimizer, "clip_grad", engine.gradient_clipping())
    return (tuple(groups[0]["betas"]), groups[0]["eps"], [group["weight_decay"] for group in groups], clipping)


def hold_lock(folder: str, seconds: float) -> None:
    """Holds a run's lock for a while."""
    from zhgpt.train.run_folder import RunFolder, RunLock

    lock = RunLock(RunFolder(Path(folder)))
    time.sleep(seconds)
    lock.release()
