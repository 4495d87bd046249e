"""``zhgpt demo``: text in, speaking model out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from zhgpt.demo.plan import CORPUS, DemoFolder
from zhgpt.demo.run import run_demo
from zhgpt.distributed.local_launcher import count_gpus


def command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the training, e.g. train.steps=100."),
    ] = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Your own text (JSONL, txt, Parquet; may be given again) instead of the embedded one."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where to write [default: runs/demo or runs/demo-NAME].")
    ] = None,
    num_processes: Annotated[
        int | None,
        typer.Option("--num-processes", "-n", help="Ranks [default: one a GPU, else 2, else the cores there are]."),
    ] = None,
) -> None:
    """Tokenizer, dataset, training under deepspeed, export, text and report, from the embedded Chinese corpus or yours."""
    chosen = tuple(corpus) if corpus else CORPUS
    where = folder or Path("runs") / ("demo" if not corpus else f"demo-{chosen[0].name.split('.')[0]}")
    processes = num_processes or count_gpus() or min(2, len(os.sched_getaffinity(0)))
    typer.echo(run_demo(DemoFolder(where), chosen, processes, overrides or ()))
