"""``zhgpt plan lr``: a learning-rate range test of a run's own model, data and batch."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megatron_style_data.atomic import atomic_write_json
from zhgpt.cli.pretrain import DEFAULT_DEEPSPEED_CONFIG, plan_launch
from zhgpt.errors import DivergedError, SettingError

if TYPE_CHECKING:
    from zhgpt.train.arguments import PretrainArguments

LOSSES_DIVERGED = DivergedError.exit_code


def command(
    config: Annotated[Path, typer.Option("--config", help="RunConfig recipe (YAML) of the run to come.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. train.micro_batch_size=4.")
    ] = None,
    deepspeed_config: Annotated[
        Path, typer.Option("--deepspeed_config", "--deepspeed-config", help="DeepSpeed JSON with the ZeRO stage.")
    ] = DEFAULT_DEEPSPEED_CONFIG,
    steps: Annotated[int, typer.Option("--steps", help="Steps of the test.")] = 100,
    lowest: Annotated[float, typer.Option("--lowest", help="Learning rate of the first step.")] = 1e-5,
    highest: Annotated[float, typer.Option("--highest", help="Learning rate of the last step.")] = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new folder [default: runs/NAME-lr_range].")
    ] = None,
    num_processes: Annotated[
        int | None, typer.Option("--num-processes", "-n", help="Ranks on this host [default: one a GPU, else 1].")
    ] = None,
) -> None:
    """Find a learning rate: a short real run whose rate rises until the loss does."""
    from zhgpt.distributed.local_launcher import check_launch_plan, run_ranks
    from zhgpt.plan.learning_rate_range import (
        check_range,
        describe_range,
        draw_range,
        judge_suggestion,
        range_overrides,
        read_range,
    )
    from zhgpt.train.arguments import PretrainArguments
    from zhgpt.train.decisions import decide, run_numbers
    from zhgpt.train.metrics import read_metrics
    from zhgpt.train.run_folder import RunFolder

    check_range(lowest, highest, steps)
    launch = plan_launch(num_processes, 1, None, None, None)
    check_launch_plan(launch)
    asked = PretrainArguments(config, deepspeed_config, "never", tuple(overrides or ()))
    given = decide(_with(asked, "train.branch_from=null"), launch.world_size)
    whole = decide(_with(asked, "train.branch_from=null", "optim.learning_rate=auto"), launch.world_size)
    folder = RunFolder(output if output is not None else Path("runs") / f"{whole.config.run.name}-lr_range")
    if folder.has_run():
        raise SettingError(f"{folder.path} holds a run already; choose another --output, or delete it")
    words = range_overrides(lowest, highest, steps, whole.plan.global_batch_size, given.config.optim)
    test = _with(asked, *words, f"run.dir={folder.path}")
    decide(test, launch.world_size)  # refused here, before ranks start, where it cannot be
    from zhgpt.cli.rank import rank_command

    outcome = run_ranks(rank_command(test), launch)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    if outcome.code not in (0, LOSSES_DIVERGED):
        sys.exit(outcome.code)
    result = read_range(read_metrics(folder.metrics).records)
    draw_range(result, folder.path / "lr_range.png")
    atomic_write_json(folder.path / "lr_range.json", result.to_json())
    numbers = run_numbers(given)
    judged = judge_suggestion(result, given.config, given.plan, numbers.active, numbers.non_embedding)
    for line in describe_range(result, whole.config.optim.peak, judged):
        typer.echo(line)
    typer.echo(f"plot and numbers: {folder.path / 'lr_range.png'}, {folder.path / 'lr_range.json'}")


def _with(asked: "PretrainArguments", *overrides: str) -> "PretrainArguments":
    """The run to come with other settings."""
    from dataclasses import replace

    return replace(asked, overrides=(*asked.overrides, *overrides))
