"""``zhgpt ablate``: a question as a grid file, its runs here or on Slurm, and the report that answers it."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    grid: Annotated[Path, typer.Argument(help="The grid file, such as configs/ablations/zero.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of every variant, e.g. train.steps=20."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs with tokens, FLOPs and the cost that probe steps predict.")
    ] = False,
    probe: Annotated[
        bool | None,
        typer.Option(
            help="Whether a few steps of each variant are really trained to predict its cost [default: with --dry-run, "
            "and where a constraint needs it]."
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Write the report of what is there; start nothing.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run those again that diverged or ran out of memory.")] = False,
    slurm: Annotated[bool, typer.Option("--slurm", help="Submit the runs as a Slurm array instead.")] = False,
    sbatch: Annotated[
        list[str] | None, typer.Option("--sbatch", help="An option for sbatch, such as --time=2:00:00 (repeatable).")
    ] = None,
    at_once: Annotated[int | None, typer.Option("--at-once", help="Runs of the array at the same time.")] = None,
    only: Annotated[
        int | None, typer.Option("--only", help="Run the one with this number, from 0; what an array's tasks do.")
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Probe and write plan.json; start nothing. What an array's first job does.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where everything is written [default: ablations/NAME].")
    ] = None,
) -> None:
    """Run an ablation: expand the grid, train every variant with every seed, compare, report."""
    from zhgpt.ablate.session import Session

    session = Session.open(grid, overrides or [], directory, typer.echo)
    if report:
        session.report()
    elif dry_run:
        session.show(probe=probe is not False)
    elif slurm:
        session.submit(sbatch or [], at_once)
    elif plan_only:
        session.plan(show=True, always_probe=bool(probe))
    else:
        session.run(only=only, retry=retry, probe=bool(probe))
