"""``zhgpt pretrain``: checks everything once, then starts this host's ranks and returns their exit code."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from zhgpt.distributed.environment import free_port, read_slurm_host_place
from zhgpt.distributed.local_launcher import LaunchPlan, check_launch_plan, count_gpus, run_ranks
from zhgpt.errors import SettingError

DEFAULT_DEEPSPEED_CONFIG = Path("ds_configs/zero1.json")


def command(
    config: Annotated[Path, typer.Option("--config", help="RunConfig recipe (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. train.steps=20.")
    ] = None,
    deepspeed_config: Annotated[
        Path, typer.Option("--deepspeed_config", "--deepspeed-config", help="DeepSpeed JSON with the ZeRO stage.")
    ] = DEFAULT_DEEPSPEED_CONFIG,
    resume: Annotated[str, typer.Option(help="auto, never, or the path of a checkpoint or run.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print plan and composed JSON; start nothing.")] = False,
    num_processes: Annotated[
        int | None, typer.Option("--num-processes", "-n", help="Ranks on this host [default: one a GPU, else 1].")
    ] = None,
    hosts: Annotated[int | None, typer.Option(help="Hosts that start this command [default: Slurm's, else 1].")] = None,
    host_rank: Annotated[int | None, typer.Option(help="This host's number, from 0 [default: Slurm's].")] = None,
    master_address: Annotated[str | None, typer.Option(help="The first host [default: Slurm's].")] = None,
    master_port: Annotated[int | None, typer.Option(help="A free port there [default: chosen].")] = None,
) -> None:
    """Pretrain a model: ranks on this host, together with other hosts that start the same command."""
    from zhgpt.cli.rank import rank_command
    from zhgpt.config.loading import find_run_dir
    from zhgpt.train.arguments import PretrainArguments
    from zhgpt.train.decisions import decide, describe_decisions
    from zhgpt.train.run_folder import RunFolder, exit_status_of_refusal, read_exit_status, write_killed_status

    arguments = PretrainArguments(config, deepspeed_config, resume, tuple(overrides or ()))
    plan = plan_launch(num_processes, hosts, host_rank, master_address, master_port)
    check_launch_plan(plan)
    run_dir = None if dry_run or plan.host_rank else find_run_dir(config, arguments.overrides)
    with exit_status_of_refusal(run_dir, None, plan.world_size):
        decisions = decide(arguments, plan.world_size)
        text = describe_decisions(decisions)  # every setting is checked by now, once, before anything starts
    if dry_run:
        typer.echo(text)
        return
    outcome = run_ranks(rank_command(arguments), plan)
    folder = RunFolder(decisions.config.run.run_dir)
    said = read_exit_status(folder)
    if outcome.killed is not None and said is not None and said["exit_code"] == 0:
        sys.exit(0)  # a rank aborted while it was leaving: the target step was reached and saved before
    if outcome.killed is not None:
        write_killed_status(folder, outcome.code, outcome.killed, plan.world_size)
    sys.exit(outcome.code)


def plan_launch(
    num_processes: int | None,
    hosts: int | None,
    host_rank: int | None,
    master_address: str | None,
    master_port: int | None,
) -> LaunchPlan:
    """Fills in from Slurm, or from this one host, what was not given.

    Raises:
        SettingError: several hosts, but nobody says where the first one is.
    """
    place = read_slurm_host_place() if hosts is None else None
    count = hosts or (place.hosts if place else 1)
    if count > 1 and (host_rank is None or master_address is None or master_port is None) and place is None:
        place = read_slurm_host_place()
        if place is None:
            raise SettingError(
                f"--hosts {count} needs --host-rank, --master-address and --master-port on each host (outside Slurm nobody "
                "else says them)"
            )
    return LaunchPlan(
        processes=num_processes if num_processes is not None else max(1, count_gpus()),
        hosts=count,
        host_rank=host_rank if host_rank is not None else (place.host_rank if place and count > 1 else 0),
        master_address=master_address or (place.master_address if place and count > 1 else "127.0.0.1"),
        master_port=master_port or (place.master_port if place and count > 1 else free_port()),
    )
