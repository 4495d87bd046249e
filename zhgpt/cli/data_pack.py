"""``zhgpt data pack``: best-fit packing of a dataset, once, before runs with data.packing=best_fit."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def pack(
    prefix: Annotated[
        Path, typer.Argument(metavar="PREFIX", help="The dataset: its path without .bin, .idx, .meta.json.")
    ],
    sequence_length: Annotated[int, typer.Option(help="Tokens a sample: data.sequence_length of the runs.")],
    split: Annotated[Literal["train", "valid", "test"], typer.Option(help="Which part of the dataset.")] = "train",
    force: Annotated[bool, typer.Option("--force", help="Replace a packing that is there already.")] = False,
) -> None:
    """Pack documents into samples so that none that fits is split; writes PREFIX.SPLIT-LENGTH.packing."""
    from megatron_style_data.packing import pack as pack_split
    from megatron_style_data.packing_file import path_packing

    packing = pack_split(prefix, split, sequence_length=sequence_length, force=force)
    path = path_packing(prefix, split, sequence_length)
    typer.echo(f"{path}: {path.stat().st_size:,} bytes")
    typer.echo(
        f"  {packing.documents:,} documents of {packing.tokens:,} tokens in {packing.samples:,} samples of "
        f"{sequence_length:,} targets; {packing.padding:.4%} of the places stay empty"
    )
    typer.echo(
        f"  {len(packing.long_codes):,} documents fill a sample or more; of what is left over when they are cut, "
        f"{packing.out_of_context:,} pieces begin without the token before them"
    )
